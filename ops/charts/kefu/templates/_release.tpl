{{/* A release's tracks: see ops/decisions/0021. */}}

{{/* Image of a track: what its own values say replaces tag and digest of `image`. Called with (list root track kind). */}}
{{- define "kefu.trackImage" -}}
{{- $root := index . 0 -}}
{{- $common := index $root.Values.image (index . 2) -}}
{{- $own := dig "image" (index . 2) dict (index $root.Values.release (index . 1)) -}}
{{- include "kefu.image" (list $root (ternary (merge (dict "repository" $common.repository) $own) $common (not (empty $own)))) -}}
{{- end -}}

{{/* Model of a track, as JSON. Called with (list root track). */}}
{{- define "kefu.model" -}}
{{- $values := (index . 0).Values -}}
{{- default $values.worker.model (dig "model" dict (index $values.release (index . 1))) | toJson -}}
{{- end -}}

{{- define "kefu.otherTrack" -}}
{{- ternary "green" "blue" (eq .Values.release.active "blue") -}}
{{- end -}}

{{/* The newer track, whose image knows the topics of both: the candidate's until it was switched to. */}}
{{- define "kefu.newest" -}}
{{- $r := .Values.release -}}
{{- if and $r.candidate (not $r.former) }}{{ include "kefu.otherTrack" . }}{{ else }}{{ $r.active }}{{ end -}}
{{- end -}}

{{/* Name of a component in a track. Called with (list component track). */}}
{{- define "kefu.inTrack" -}}
{{- index . 0 }}{{ ternary "" "-green" (eq (index . 1) "blue") -}}
{{- end -}}
