{{- define "kefu.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change: selectors can't. Called with (list root component). */}}
{{- define "kefu.selector" -}}
app.kubernetes.io/name: {{ default (index . 0).Chart.Name (index . 0).Values.nameOverride }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "kefu.labels" -}}
{{ include "kefu.selector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/part-of: kefu
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ (index . 0).Chart.Name }}-{{ (index . 0).Chart.Version }}
{{- end -}}

{{/* Labels of pods: none that changes with the chart's version, which alone is no reason to restart. */}}
{{- define "kefu.podLabels" -}}
{{ include "kefu.selector" . }}
app.kubernetes.io/part-of: kefu
{{- with (index . 0).Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Called with (list root image). */}}
{{- define "kefu.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end -}}

{{/* Name of a component's Secret. Called with (list root component). */}}
{{- define "kefu.secretName" -}}
{{- $root := index . 0 -}}
{{- $own := printf "%s-%s" (include "kefu.fullname" $root) (index . 1) -}}
{{- if eq $root.Values.secrets.source "existing" -}}
{{ default $own (index $root.Values.secrets.existing (index . 1)) }}
{{- else -}}
{{ $own }}
{{- end -}}
{{- end -}}

{{/* The topics' job runs before everything else, except where this release brings the broker: then beside it. */}}
{{- define "kefu.hook" -}}
{{- if not .Values.kafka.install.enabled -}}true{{- end -}}
{{- end -}}

{{/* Annotations that make what the topics' job needs exist before it, and no longer: an uninstall takes no hooks away, and
its Secret is a super user's. Helm deletes what has hook-succeeded after the event's last hook, which is the job.
Called with (list root component). Source: Helm, pkg/action/hooks.go, execHook. */}}
{{- define "kefu.hookAnnotations" -}}
{{- if and (eq (index . 1) "topics") (include "kefu.hook" (index . 0)) -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: "-10"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
{{- end -}}

{{/* The job's own: it stays for a day, for its log. */}}
{{- define "kefu.jobAnnotations" -}}
{{- if include "kefu.hook" . -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: "-5"
helm.sh/hook-delete-policy: before-hook-creation
{{- end -}}
{{- end -}}
