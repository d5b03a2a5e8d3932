{{/* Patches of RFC 6902, laid over what the chart makes. */}}

{{/* What makes objects: the template tidegate.manifest.NAME of each. */}}
{{- define "tidegate.manifests" -}}
["availability", "certificate", "configmap", "dashboards", "deployment", "external", "extra", "monitors", "networkpolicy", "produce-consume", "prometheusrule", "service", "serviceaccount", "statefulset"]
{{- end }}

{{/* The objects of one of them, patched: (list ROOT NAME). */}}
{{- define "tidegate.manifest" -}}
{{- $root := first . }}
{{- $text := include (printf "tidegate.manifest.%s" (last .)) $root }}
{{- if $root.Values.patches }}
{{- range regexSplit "(?m)^---[[:space:]]*$" $text -1 }}
{{- $object := include "tidegate.patch.object" . | fromJson }}
{{- if $object }}
{{- $patched := dict "node" (deepCopy $object) }}
{{- $isPatched := false }}
{{- range $number, $patch := $root.Values.patches }}
{{- if include "tidegate.patch.matches" (list $patch.target $object) }}
{{- $isPatched = true }}
{{- range $operation := $patch.patch }}
{{- $where := printf "patches[%d]: %s %s: %s %q" $number $object.kind $object.metadata.name .op .path }}
{{- $patched = include "tidegate.patch.at" (dict "node" $patched.node "path" (splitList "/" .path | rest) "operation" . "where" $where) | fromJson }}
{{- end }}
{{- end }}
{{- end }}
---
{{ ternary (toYaml $patched.node) (trim .) $isPatched }}
{{ end }}
{{- end }}
{{- else }}
{{- $text }}
{{- end }}
{{- end }}

{{/* A text of YAML as JSON. The last line of a block needs its end, which belongs to the block. */}}
{{- define "tidegate.patch.object" -}}
{{- $object := printf "%s\n" . | fromYaml }}
{{- if hasKey $object "Error" }}
{{- fail (printf "patches: an object is no YAML: %s: %s" (get $object "Error") .) }}
{{- end }}
{{- toJson $object }}
{{- end }}

{{/* Whether (list TARGET OBJECT) belong together. */}}
{{- define "tidegate.patch.matches" -}}
{{- $target := first . }}
{{- with last . }}
{{- if and (eq .kind $target.kind) (eq ($target.name | default .metadata.name) .metadata.name) }}true{{ end }}
{{- end }}
{{- end }}

{{/* Refuses patches of what is not there. */}}
{{- define "tidegate.patch.check" -}}
{{- $objects := list }}
{{- $names := list }}
{{- range include "tidegate.manifests" . | fromJsonArray }}
{{- range regexSplit "(?m)^---[[:space:]]*$" (include (printf "tidegate.manifest.%s" .) $) -1 }}
{{- with include "tidegate.patch.object" . | fromJson }}
{{- $objects = append $objects . }}
{{- $names = append $names (printf "%s %s" .kind .metadata.name) }}
{{- end }}
{{- end }}
{{- end }}
{{- range $number, $patch := .Values.patches }}
{{- $found := false }}
{{- range $objects }}
{{- if include "tidegate.patch.matches" (list $patch.target .) }}{{ $found = true }}{{ end }}
{{- end }}
{{- if not $found }}
{{- fail (printf "patches[%d]: %s of %q: no object is the target; there are: %s" $number (first $patch.patch).path (trim (printf "%s %s" $patch.target.kind ($patch.target.name | default ""))) (sortAlpha $names | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}

{{/* One operation on what is at .path (a list) below .node. It gives {"node": …}. */}}
{{- define "tidegate.patch.at" -}}
{{- $node := .node }}
{{- $do := .operation.op }}
{{- if not .path }}
{{- if and (eq $do "test") (ne (toJson $node) (toJson .operation.value)) }}
{{- fail (printf "%s: it is %s, not %s" .where (toJson $node) (toJson .operation.value)) }}
{{- end }}
{{- dict "node" (ternary $node .operation.value (eq $do "test")) | toJson }}
{{- else }}
{{- $key := first .path | replace "~1" "/" | replace "~0" "~" }}
{{- $isLast := eq 1 (len .path) }}
{{- $isAdded := and $isLast (eq $do "add") }}
{{- $isRemoved := and $isLast (eq $do "remove") }}
{{- $below := dict "path" (rest .path) "operation" .operation "where" .where }}
{{- if kindIs "map" $node }}
{{- if not (or $isAdded (hasKey $node $key)) }}
{{- fail (printf "%s: there is no %q; there are: %s" .where $key (keys $node | sortAlpha | join ", ")) }}
{{- end }}
{{- if $isRemoved }}
{{- $_ := unset $node $key }}
{{- else }}
{{- $_ := set $node $key (include "tidegate.patch.at" (set $below "node" (get $node $key)) | fromJson).node }}
{{- end }}
{{- else if kindIs "slice" $node }}
{{- if and $isAdded (eq $key "-") }}{{ $key = len $node | toString }}{{ end }}
{{- $last := sub (len $node) (ternary 0 1 $isAdded) }}
{{- if or (not (regexMatch "^(0|[1-9][0-9]{0,8})$" $key)) (gt (atoi $key) (int $last)) }}
{{- fail (printf "%s: there is no %q in a list of %d" .where $key (len $node)) }}
{{- end }}
{{- $index := atoi $key }}
{{- $behind := slice $node (ternary $index (add1 $index | int) $isAdded) }}
{{- $middle := list }}
{{- if not $isRemoved }}
{{- $here := ternary $node (append $node nil) (lt $index (len $node)) }}
{{- $middle = list (include "tidegate.patch.at" (set $below "node" (index $here $index)) | fromJson).node }}
{{- end }}
{{- $node = concat (slice $node 0 $index) $middle $behind }}
{{- else }}
{{- fail (printf "%s: there is nothing below the value before %q" .where $key) }}
{{- end }}
{{- dict "node" $node | toJson }}
{{- end }}
{{- end }}
