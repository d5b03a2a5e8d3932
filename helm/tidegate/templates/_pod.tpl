{{/* The pod of both modes. */}}
{{- define "tidegate.pod" -}}
metadata:
  labels:
    {{- include "tidegate.podLabels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The file is read at the start only, so a changed one makes new pods.
    checksum/config: {{ include "tidegate.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- $spec := include "tidegate.podSpec" . | fromYaml }}
{{- if hasKey $spec "Error" }}
{{- fail (printf "the pod's spec is no YAML: %s" (get $spec "Error")) }}
{{- end }}
spec:
  {{- mergeOverwrite $spec (deepCopy .Values.podSpec) | toYaml | nindent 2 }}
{{- end }}

{{- define "tidegate.podSpec" -}}
serviceAccountName: {{ include "tidegate.serviceAccountName" . }}
automountServiceAccountToken: {{ .Values.automountServiceAccountToken }}
# Variables of the cluster's Services would be taken for settings of Tidegate.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add (int .Values.drain.pauseSeconds) (int .Values.drain.seconds) 15 }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  {{- range .Values.topologySpreadConstraints }}
  {{- $constraint := deepCopy . }}
  {{- if not .labelSelector }}
  {{- $own := include "tidegate.selectorLabels" $ | fromYaml }}
  {{- $_ := set $constraint "labelSelector" (dict "matchLabels" $own) }}
  {{- end }}
  - {{- toYaml $constraint | nindent 4 }}
  {{- else }}
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "tidegate.selectorLabels" $ | nindent 8 }}
    {{- if eq $.Values.mode "proxy" }}
    # New pods are spread among themselves: the old ones beside them are about to go.
    matchLabelKeys: [pod-template-hash]
    {{- end }}
  {{- end }}
  {{- end }}
{{- with .Values.initContainers }}
initContainers:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: tidegate
    image: {{ include "tidegate.image" . }}
    imagePullPolicy: {{ .Values.image.pullPolicy }}
    args:
      - {{ ternary "proxy" "serve" (eq .Values.mode "proxy") }}
      - --config
      - /etc/tidegate/config/tidegate.toml
      {{- with .Values.extraArgs }}
      {{- toYaml . | nindent 6 }}
      {{- end }}
    {{- include "tidegate.env" . | nindent 4 }}
    ports:
      {{- include "tidegate.containerPorts" . | nindent 6 }}
    # The admin listener answers /livez from the first moment, also while the start waits for the
    # bucket: neither a slow bucket nor a long replay is a reason to kill the process.
    startupProbe:
      httpGet: {path: /livez, port: admin}
      {{- toYaml .Values.probes.startup | nindent 6 }}
    readinessProbe:
      httpGet: {path: /readyz, port: admin}
      {{- toYaml .Values.probes.readiness | nindent 6 }}
    livenessProbe:
      httpGet: {path: /livez, port: admin}
      {{- toYaml .Values.probes.liveness | nindent 6 }}
    {{- if .Values.drain.pauseSeconds }}
    # SIGTERM closes the listeners; before it, Services have the time to forget this pod.
    lifecycle:
      preStop:
        sleep:
          seconds: {{ .Values.drain.pauseSeconds }}
    {{- end }}
    resources:
      {{- toYaml .Values.resources | nindent 6 }}
    securityContext:
      {{- toYaml .Values.containerSecurityContext | nindent 6 }}
    volumeMounts:
      {{- include "tidegate.mounts" . | nindent 6 }}
  {{- with .Values.extraContainers }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
volumes:
  {{- include "tidegate.volumes" . | nindent 2 }}
{{- end }}

{{- define "tidegate.env" -}}
{{- $isBroker := eq .Values.mode "broker" }}
env:
  # For commands that are run in the pod: no setting of what runs there already.
  - name: TIDEGATE_COMMAND_CONFIG
    value: /etc/tidegate/config/client.properties
  {{- if and $isBroker .Values.rackFromPodLabel }}
  - name: TIDEGATE_BROKER_RACK
    valueFrom:
      fieldRef:
        fieldPath: metadata.labels['{{ .Values.rackFromPodLabel }}']
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- if or .Values.extraEnvFrom .Values.bucket.existingSecret }}
envFrom:
  {{- with .Values.bucket.existingSecret }}
  - secretRef:
      name: {{ . }}
  {{- end }}
  {{- with .Values.extraEnvFrom }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "tidegate.containerPorts" -}}
- name: kafka
  containerPort: {{ .Values.listener.port }}
  protocol: TCP
{{- if and (eq .Values.mode "broker") (ne .Values.external.type "none") }}
- name: external
  containerPort: 9094
  protocol: TCP
{{- end }}
{{- range include "tidegate.nodeIds" . | fromJsonArray }}
- name: node-{{ . }}
  containerPort: {{ add (int $.Values.listener.port) 1 (int .) }}
  protocol: TCP
{{- end }}
- name: admin
  containerPort: 9464
  protocol: TCP
{{- end }}

{{/* Secrets as files: name of the volume and of its directory, name of the Secret. */}}
{{- define "tidegate.secrets" -}}
{{- $secrets := dict }}
{{- if .Values.tls.enabled }}
{{- $_ := set $secrets "tls" (include "tidegate.tlsSecret" .) }}
{{- end }}
{{- with .Values.bucket.caSecret }}{{- $_ := set $secrets "bucket-ca" . }}{{- end }}
{{- with .Values.bucket.customerKeySecret }}{{- $_ := set $secrets "customer-key" . }}{{- end }}
{{- with .Values.upstreamTls.caSecret }}{{- $_ := set $secrets "upstream-ca" . }}{{- end }}
{{- with .Values.upstreamTls.clientSecret }}{{- $_ := set $secrets "upstream-client" . }}{{- end }}
{{- toJson $secrets }}
{{- end }}

{{- define "tidegate.mounts" -}}
- name: config
  mountPath: /etc/tidegate/config
  readOnly: true
{{- range $name, $_ := include "tidegate.secrets" . | fromJson }}
- name: {{ $name }}
  mountPath: /etc/tidegate/{{ $name }}
  readOnly: true
{{- end }}
{{- if eq .Values.mode "broker" }}
- name: data
  mountPath: {{ ternary "/tmp" "/var/lib/tidegate" .Values.demo.enabled }}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tidegate.volumes" -}}
- name: config
  configMap:
    name: {{ include "tidegate.fullname" . }}
{{- range $name, $secret := include "tidegate.secrets" . | fromJson }}
- name: {{ $name }}
  secret:
    secretName: {{ $secret }}
    # Readable by the group of the pod, whose user is not root.
    defaultMode: 0440
{{- end }}
{{- if eq .Values.mode "broker" }}
{{- if .Values.demo.enabled }}
- name: data
  emptyDir:
    sizeLimit: {{ .Values.persistence.size }}
{{- else if .Values.persistence.existingClaim }}
- name: data
  persistentVolumeClaim:
    claimName: {{ .Values.persistence.existingClaim }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
