{{/* Names and labels. */}}

{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* At most 52 characters: Pods of a StatefulSet and Services add to it. */}}
{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains (include "tidegate.name" .) .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What never changes while the release lives: selectors are immutable. */}}
{{- define "tidegate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Of the pod of helm test. */}}
{{- define "tidegate.testLabels" -}}
app.kubernetes.io/name: {{ include "tidegate.name" . }}-test
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* Of pods: not the chart's version, by which a new chart would start each pod anew. */}}
{{- define "tidegate.podLabels" -}}
{{ include "tidegate.selectorLabels" . }}
app.kubernetes.io/component: {{ .Values.mode }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | trunc 63 | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tidegate.labels" -}}
{{ include "tidegate.podLabels" . }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "tidegate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tidegate.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tidegate.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}
{{- else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{/* The name by which clients in the cluster bootstrap. */}}
{{- define "tidegate.serviceHost" -}}
{{ include "tidegate.fullname" . }}.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* The name of the broker's pod. */}}
{{- define "tidegate.podHost" -}}
{{- $name := include "tidegate.fullname" . -}}
{{ $name }}-0.{{ $name }}-headless.{{ .Release.Namespace }}.svc.{{ .Values.clusterDomain }}
{{- end }}

{{/* Where clients outside connect, as JSON: one host, or with perPodLoadBalancer each pod's. A
     release of no pods keeps the first one's Service, and its address. */}}
{{- define "tidegate.externalHosts" -}}
{{- $hosts := list .Values.external.host }}
{{- if eq .Values.external.type "perPodLoadBalancer" }}
{{- $hosts = list }}
{{- range until (max 1 .Values.replicas | int) }}
{{- $hosts = append $hosts (replace "{id}" (toString .) $.Values.external.host) }}
{{- end }}
{{- end }}
{{- toJson $hosts }}
{{- end }}

{{- define "tidegate.tlsSecret" -}}
{{- .Values.tls.existingSecret | default (printf "%s-tls" (include "tidegate.fullname" .)) }}
{{- end }}

{{/* Every name that clients are told, for the certificate. */}}
{{- define "tidegate.dnsNames" -}}
{{- $name := include "tidegate.fullname" . }}
{{- $names := list (include "tidegate.serviceHost" .) $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) }}
{{- if eq .Values.mode "broker" }}
{{- $names = append $names (include "tidegate.podHost" .) }}
{{- end }}
{{- if ne .Values.external.type "none" }}
{{- range include "tidegate.externalHosts" . | fromJsonArray }}
{{- if regexMatch "[a-zA-Z]" . }}{{ $names = append $names . }}{{ end }}
{{- end }}
{{- end }}
{{- with .Values.external.pattern }}
{{- $names = append $names (include "tidegate.wildcard" $) }}
{{- end }}
{{- concat $names .Values.tls.certManager.extraDnsNames | uniq | toYaml }}
{{- end }}

{{/* external.pattern as one name: *.kafka.example.com of broker-{id}.kafka.example.com. */}}
{{- define "tidegate.wildcard" -}}
{{- regexReplaceAll "^[^.]*" .Values.external.pattern "*" }}
{{- end }}
