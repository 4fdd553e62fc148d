{{/* Services that this installation's processes are scraped by, as a regular expression: the list that service.yaml makes. */}}
{{- define "kefu.services" -}}
{{ include "kefu.fullname" . }}-(actions|gateway|shop|worker)(-candidate|-green)?
{{- end -}}

{{/* What tells this installation's records from others'. */}}
{{- define "kefu.ownRecords" -}}
namespace="{{ .Release.Namespace }}",installation="{{ include "kefu.fullname" . }}"
{{- end -}}

{{/* An expression of rules/kefu.yaml for this installation alone. Called with (list root expression). */}}
{{- define "kefu.ownExpression" -}}
{{- $root := index . 0 -}}
{{- $namespace := printf "namespace=%q," $root.Release.Namespace -}}
{{- index . 1
  | replace "service=~\".*\"" (printf "%sservice=~%q" $namespace (include "kefu.services" $root))
  | replace "installation=~\".*\"" (include "kefu.ownRecords" $root)
  | replace "deployment=~\".*-" (printf "%sdeployment=~\"%s-" $namespace (include "kefu.fullname" $root))
  | replace "cronjob=~\".*-" (printf "%scronjob=~\"%s-" $namespace (include "kefu.fullname" $root)) -}}
{{- end -}}

{{/* rules/kefu.yaml for this installation: its own series, its name on all that comes of them, addresses of runbooks. */}}
{{- define "kefu.rules" -}}
{{- $root := . -}}
{{- $base := .Values.monitoring.rules.runbooks | trimSuffix "/" -}}
{{- $file := .Files.Get "rules/kefu.yaml" | fromYaml -}}
{{- range $group := $file.groups -}}
{{- range $rule := $group.rules -}}
{{- $_ := set $rule "expr" (include "kefu.ownExpression" (list $root $rule.expr)) -}}
{{- $_ := set $rule "labels" (merge (dict "installation" (include "kefu.fullname" $root)) (default dict $rule.labels)) -}}
{{- if and $base $rule.alert -}}
{{- $_ := set $rule.annotations "runbook_url" ($rule.annotations.runbook_url | replace "ops/runbooks" $base) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $file -}}
{{- end -}}
