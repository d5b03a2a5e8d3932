{{/* Values that cannot be meant; the schema has looked at each by itself. */}}
{{- define "tidegate.check" -}}
{{- $v := .Values }}
{{- if eq $v.mode "broker" }}
{{- if gt (int $v.replicas) 1 }}
{{- fail (printf "replicas: %d brokers would not form a cluster: Tidegate has no clusters yet, and one data directory is one broker. Set replicas=1, or install another release for another broker" (int $v.replicas)) }}
{{- end }}
{{- if $v.autoscaling.enabled }}
{{- fail "autoscaling: a broker is one pod until Tidegate has clusters; autoscaling is for mode=proxy" }}
{{- end }}
{{- if $v.external.pattern }}
{{- fail "external.pattern: names for brokers are for mode=proxy; a broker is told of as external.host" }}
{{- end }}
{{- if or $v.upstreamTls.caSecret $v.upstreamTls.clientSecret }}
{{- fail "upstreamTls: only a proxy has an upstream (mode=proxy)" }}
{{- end }}
{{- else }}
{{- if $v.demo.enabled }}
{{- fail "demo.enabled: it is for mode=broker; a proxy keeps nothing anyway" }}
{{- end }}
{{- if not (get $v.config "upstream.bootstrap.servers") }}
{{- fail "config: a proxy needs upstream.bootstrap.servers, some brokers of the Kafka cluster behind it, such as [kafka-1:9092, kafka-2:9092]" }}
{{- end }}
{{- if or $v.bucket.existingSecret $v.bucket.caSecret $v.bucket.customerKeySecret $v.persistence.existingClaim }}
{{- fail "bucket, persistence: they are for mode=broker; a proxy keeps nothing" }}
{{- end }}
{{- if eq $v.external.type "perPodLoadBalancer" }}
{{- fail "external.type: perPodLoadBalancer is for mode=broker: any proxy serves every client, so one load balancer leads to all of them: external.type=loadBalancer" }}
{{- end }}
{{- if and $v.external.pattern (not (regexMatch "^[^.]*\\{id\\}[^.]*\\..+" $v.external.pattern)) }}
{{- fail (printf "external.pattern: %q must have {id} in the first part of a name, such as broker-{id}.kafka.example.com" $v.external.pattern) }}
{{- end }}
{{- if and $v.external.pattern (eq $v.external.type "none") }}
{{- fail "external.pattern: names need a way in: set external.type to loadBalancer, nodePort or tlsRoute" }}
{{- end }}
{{- if and $v.external.pattern (hasKey $v.config "node.ids") }}
{{- fail "config: with external.pattern brokers have names, whatever their ids: leave out node.ids" }}
{{- end }}
{{- if and (eq $v.external.type "tlsRoute") (not $v.external.pattern) }}
{{- fail "external.pattern: with tlsRoute brokers are told apart by name: set it, such as broker-{id}.kafka.example.com" }}
{{- end }}
{{- end }}
{{- if and (ne $v.external.type "none") (not $v.external.host) }}
{{- fail (printf "external.host: with external.type=%s clients have to be told where to connect: set the name or address that leads there" $v.external.type) }}
{{- end }}
{{- if and (contains "{id}" $v.external.host) (ne $v.external.type "perPodLoadBalancer") }}
{{- fail (printf "external.host: %q has {id} in it, which is a pod's number with external.type=perPodLoadBalancer alone" $v.external.host) }}
{{- end }}
{{- if and (or $v.external.pattern (eq $v.external.type "tlsRoute")) (not $v.tls.enabled) }}
{{- fail "tls.enabled: without TLS nobody says which name it connects to, which external.pattern and tlsRoute need" }}
{{- end }}
{{- if and (eq $v.external.type "tlsRoute") (not $v.external.tlsRoute.parentRefs) }}
{{- fail "external.tlsRoute.parentRefs: a TLSRoute needs the Gateway it belongs to, such as [{name: my-gateway}]" }}
{{- end }}
{{- if $v.tls.enabled }}
{{- if and $v.tls.certManager.enabled (not $v.tls.certManager.issuerRef.name) }}
{{- fail "tls.certManager.issuerRef.name: name the Issuer that signs the certificate" }}
{{- end }}
{{- if not (or $v.tls.existingSecret $v.tls.certManager.enabled) }}
{{- fail "tls.enabled: give the certificate: tls.existingSecret, or tls.certManager.enabled with an issuer" }}
{{- end }}
{{- else if or $v.tls.existingSecret $v.tls.certManager.enabled (ne $v.tls.clientAuth "none") }}
{{- fail "tls: existingSecret, clientAuth and certManager have no effect without tls.enabled=true" }}
{{- end }}
{{- $_ := include "tidegate.nodeIds" . }}
{{- if and $v.metrics.serviceMonitor.enabled $v.metrics.podMonitor.enabled }}
{{- fail "metrics: serviceMonitor and podMonitor would read each pod twice; enable one of them" }}
{{- end }}
{{- if and $v.metrics.dashboards.grafanaOperator.enabled (not $v.metrics.dashboards.enabled) }}
{{- fail "metrics.dashboards.grafanaOperator: set metrics.dashboards.enabled=true, too; it reads the ConfigMaps" }}
{{- end }}
{{- end }}
