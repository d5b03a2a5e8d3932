{{/* The configuration file. */}}

{{/* Whether brokers behind the proxy have names (SNI) rather than ports. */}}
{{- define "tidegate.byName" -}}
{{- if and (eq .Values.mode "proxy") .Values.external.pattern }}true{{ end }}
{{- end }}

{{/* The ids of config's node.ids, as JSON; none where nodes have names. */}}
{{- define "tidegate.nodeIds" -}}
{{- $ids := list }}
{{- if and (eq .Values.mode "proxy") (not (include "tidegate.byName" .)) }}
{{- $given := hasKey .Values.config "node.ids" | ternary (get .Values.config "node.ids") "0-9" }}
{{- if kindIs "slice" $given }}{{ $given = join "," $given }}{{ end }}
{{- range splitList "," (toString $given) }}
{{- $range := trim . }}
{{- if regexMatch "^[0-9]{1,5}$" $range }}
{{- $ids = append $ids (atoi $range) }}
{{- else if regexMatch "^[0-9]{1,5}-[0-9]{1,5}$" $range }}
{{- $ends := splitList "-" $range }}
{{- range untilStep (atoi (first $ends)) (add1 (atoi (last $ends)) | int) 1 }}
{{- $ids = append $ids . }}
{{- end }}
{{- else }}
{{- fail (printf "config: node.ids %q must be ids and ranges such as 1,2 or 0-9" $range) }}
{{- end }}
{{- end }}
{{- $ids = uniq $ids }}
{{- if gt (len $ids) 200 }}
{{- fail (printf "config: node.ids has %d ids, and a Service with a port for each of more than 200 is refused by many load balancers; give fewer, or names instead (external.pattern)" (len $ids)) }}
{{- end }}
{{- end }}
{{- toJson $ids }}
{{- end }}

{{/* The keys that the chart sets. */}}
{{- define "tidegate.own" -}}
{{- $own := dict
  "admin.listener" ":9464"
  "shutdown.deadline.ms" (printf "%ds" (int .Values.drain.seconds)) }}
{{- include (printf "tidegate.own.%s" .Values.mode) (dict "root" . "own" $own) }}
{{- if .Values.tls.enabled }}
{{- $_ := set $own "ssl.keystore.certificate.chain" "/etc/tidegate/tls/tls.crt" }}
{{- $_ := set $own "ssl.keystore.key" "/etc/tidegate/tls/tls.key" }}
{{- if ne .Values.tls.clientAuth "none" }}
{{- $_ := set $own "ssl.client.auth" .Values.tls.clientAuth }}
{{- $_ := set $own "ssl.truststore.location" "/etc/tidegate/tls/ca.crt" }}
{{- end }}
{{- end }}
{{- toJson $own }}
{{- end }}

{{- define "tidegate.own.broker" -}}
{{- $own := .own }}
{{- with .root }}
{{- $protocol := ternary "SSL" "PLAINTEXT" .Values.tls.enabled }}
{{- $listeners := list (printf "INTERNAL://:%d" (int .Values.listener.port)) }}
{{- $told := list (printf "INTERNAL://%s:%d" (include "tidegate.podHost" .) (int .Values.listener.port)) }}
{{- $protocols := list (printf "INTERNAL:%s" $protocol) }}
{{- if ne .Values.external.type "none" }}
{{- $port := ternary .Values.external.nodePort .Values.external.port (eq .Values.external.type "nodePort") }}
{{- $listeners = append $listeners "EXTERNAL://:9094" }}
{{- $told = append $told (printf "EXTERNAL://%s:%d" (include "tidegate.externalHosts" . | fromJsonArray | first) (int $port)) }}
{{- $protocols = append $protocols (printf "EXTERNAL:%s" $protocol) }}
{{- end }}
{{- $_ := set $own "listeners" $listeners }}
{{- $_ := set $own "advertised.listeners" $told }}
{{- $_ := set $own "listener.security.protocol.map" $protocols }}
{{- if .Values.demo.enabled }}
{{- $_ := set $own "object.url" "memory://" }}
{{- if not (hasKey .Values.config "wal.max.bytes") }}
{{- $_ := set $own "wal.max.bytes" "1GiB" }}
{{- end }}
{{- else }}
{{- $_ := set $own "data.dir" "/var/lib/tidegate/data" }}
{{- end }}
{{- if .Values.bucket.caSecret }}
{{- $_ := set $own "object.tls.ca.file" "/etc/tidegate/bucket-ca/ca.crt" }}
{{- end }}
{{- if .Values.bucket.customerKeySecret }}
{{- $_ := set $own "object.s3.sse.customer.key.file" "/etc/tidegate/customer-key/customer.key" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "tidegate.own.proxy" -}}
{{- $own := .own }}
{{- with .root }}
{{- $sasl := hasPrefix "SASL_" (get .Values.config "upstream.security.protocol" | default "" | upper) }}
{{- $protocol := ternary "SSL" "PLAINTEXT" .Values.tls.enabled }}
{{- $_ := set $own "proxy.listener" (printf ":%d" (int .Values.listener.port)) }}
{{- $_ := set $own "listener.security.protocol" (ternary (printf "SASL_%s" $protocol) $protocol $sasl) }}
{{- if include "tidegate.byName" . }}
{{- $_ := set $own "node.advertised.pattern" (printf "%s:%d" .Values.external.pattern (int (include "tidegate.externalPort" .))) }}
{{- else if eq .Values.external.type "none" }}
{{- $_ := set $own "node.advertised.host" (include "tidegate.serviceHost" .) }}
{{- else }}
{{- $_ := set $own "node.advertised.host" .Values.external.host }}
{{- $_ := set $own "node.advertised.port.base" (add1 (int (include "tidegate.externalPort" .)) | int) }}
{{- end }}
{{- if .Values.upstreamTls.caSecret }}
{{- $_ := set $own "upstream.ssl.truststore.location" "/etc/tidegate/upstream-ca/ca.crt" }}
{{- end }}
{{- if .Values.upstreamTls.clientSecret }}
{{- $_ := set $own "upstream.ssl.keystore.certificate.chain" "/etc/tidegate/upstream-client/tls.crt" }}
{{- $_ := set $own "upstream.ssl.keystore.key" "/etc/tidegate/upstream-client/tls.key" }}
{{- end }}
{{- end }}
{{- end }}

{{/* The port that clients outside bootstrap at. */}}
{{- define "tidegate.externalPort" -}}
{{- ternary .Values.external.nodePort .Values.external.port (eq .Values.external.type "nodePort") }}
{{- end }}

{{/* The value that takes the place of a key which the chart sets, for the message about one. */}}
{{- define "tidegate.insteadOf" -}}
{{- $key := . }}
{{- if hasPrefix "virtual.cluster" $key }}one release for each cluster
{{- else if hasPrefix "object.tls" $key }}bucket.caSecret
{{- else if hasPrefix "object.s3.sse.customer" $key }}bucket.customerKeySecret
{{- else if eq "object.url" $key }}demo.enabled=false
{{- else if hasPrefix "upstream.ssl" $key }}upstreamTls
{{- else if contains "ssl." $key }}tls
{{- else if hasPrefix "shutdown" $key }}drain.seconds
{{- else if hasPrefix "admin" $key }}nothing: probes and monitoring need it as it is
{{- else if hasPrefix "data.dir" $key }}persistence
{{- else if contains "advertised" $key }}external
{{- else }}listener, tls and external{{ end }}
{{- end }}

{{/* Keys of the chart that config must not have. Those of the upstream's and the bucket's
     certificates may be there as long as the chart does not set them. */}}
{{- define "tidegate.reserved" -}}
{{- if eq .Values.mode "broker" -}}
["admin.listener", "shutdown.deadline.ms", "listeners", "advertised.listeners", "listener.security.protocol.map", "controller.listener.names", "data.dir", "ssl.keystore.location", "ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.client.auth", "ssl.truststore.location", "ssl.truststore.certificates"]
{{- else -}}
["admin.listener", "shutdown.deadline.ms", "virtual.clusters", "proxy.listener", "node.port.base", "node.advertised.host", "node.advertised.port.base", "node.advertised.pattern", "listener.security.protocol", "ssl.keystore.location", "ssl.keystore.certificate.chain", "ssl.keystore.key", "ssl.client.auth", "ssl.truststore.location", "ssl.truststore.certificates"]
{{- end -}}
{{- end }}

{{/* The file: TOML with every key in quotes, since max.connections is one beside
     max.connections.per.ip. JSON's scalars and arrays of them are TOML's. */}}
{{- define "tidegate.config" -}}
{{- $own := include "tidegate.own" . | fromJson }}
{{- $reserved := concat (keys $own) (include "tidegate.reserved" . | fromJsonArray) }}
{{- range $key := keys .Values.config | sortAlpha }}
{{- if contains "PRIVATE KEY" (get $.Values.config $key | toString) }}
{{- fail (printf "config: %q holds a private key, which belongs in a Secret; instead of it set %s" $key (include "tidegate.insteadOf" $key)) }}
{{- end }}
{{- if or (has $key $reserved) (hasPrefix "virtual.cluster." $key) (regexMatch "^listener\\.name\\..*\\.ssl\\." $key) }}
{{- fail (printf "config: %q is set by the chart; instead of it set %s" $key (include "tidegate.insteadOf" $key)) }}
{{- end }}
{{- end }}
{{- range $key, $value := .Values.config }}
{{- $_ := set $own $key $value }}
{{- end -}}
# Written by the chart: values under config, and what follows from the others.
{{- range $key := keys $own | sortAlpha }}
{{ $key | quote }} = {{ get $own $key | toJson }}
{{- end }}
{{- end }}

{{/* How commands in the pods connect: `tidegate topic list` and the others, and helm test. */}}
{{- define "tidegate.clientProperties" -}}
bootstrap.servers={{ include "tidegate.serviceHost" . }}:{{ .Values.listener.port }}
{{- if .Values.tls.enabled }}
security.protocol=SSL
ssl.truststore.location=/etc/tidegate/tls/ca.crt
{{- end }}
{{- end }}
