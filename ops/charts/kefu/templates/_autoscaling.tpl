{{/* Up: doubled at once, every 15 s. Down: slowly, after quiet. Called with a component's autoscaling values. */}}
{{- define "kefu.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  selectPolicy: Max
  policies: [{type: Percent, value: 100, periodSeconds: 15}, {type: Pods, value: 2, periodSeconds: 15}]
scaleDown:
  stabilizationWindowSeconds: {{ .stableSeconds }}
  policies: [{type: Percent, value: {{ .downPercent }}, periodSeconds: 60}]
{{- end -}}

{{/* Metrics of an HPA, by the names that prometheus-adapter.yaml gives them. Called with (list root component entry
autoscaling). */}}
{{- define "kefu.hpaMetrics" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $base := (index . 2).base -}}
{{- $a := index . 3 -}}
- type: Resource
  resource:
    name: cpu
    target: {type: Utilization, averageUtilization: {{ $a.cpuPercent }}}
{{- if eq $base "worker" }}
- type: Pods
  pods:
    metric: {name: kefu_inbox_lag_messages}
    target: {type: AverageValue, averageValue: {{ $a.lagMessages | quote }}}
- type: External # the record kefu:inbox_lag_seconds
  external:
    metric:
      name: kefu_inbox_lag_seconds
      selector:
        matchLabels: {installation: {{ include "kefu.fullname" $root }}, job: {{ $component }}}
    target: {type: Value, value: {{ $a.lagSeconds | quote }}}
{{- else if eq $base "gateway" }}
- type: Pods
  pods:
    metric: {name: kefu_streams_open}
    target: {type: AverageValue, averageValue: {{ $a.connections | quote }}}
- type: External # the record kefu:loop_late_p99_ms
  external:
    metric:
      name: kefu_loop_late_p99_ms
      selector:
        matchLabels: {installation: {{ include "kefu.fullname" $root }}, job: {{ $component }}}
    target: {type: Value, value: {{ $a.loopLateMs | quote }}}
{{- end }}
{{- end -}}

{{/* A question to Prometheus. No answer is an error, not 0: who can't be asked is no reason to send pods home.
Called with (list address query threshold). */}}
{{- define "kefu.prometheusTrigger" -}}
serverAddress: {{ index . 0 }}
query: {{ index . 1 }}
threshold: {{ index . 2 | quote }}
ignoreNullValues: "false"
{{- end -}}

{{/* Called with (list root component entry autoscaling). */}}
{{- define "kefu.kedaTriggers" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $c := index . 2 -}}
{{- $a := index . 3 -}}
{{- $kafka := $root.Values.kafka -}}
{{- $ownRecord := printf "%s,job=%q" (include "kefu.ownRecords" $root) $component -}}
{{- $ownSeries := printf "namespace=%q,service=~%q,job=%q" $root.Release.Namespace (include "kefu.services" $root) $component -}}
- type: cpu
  metricType: Utilization
  metadata: {value: {{ $a.cpuPercent | quote }}}
{{- if eq $c.base "worker" }}
- type: kafka
  metadata:
    bootstrapServers: {{ include "kefu.brokers" $root | quote }}
    {{- $candidate := ternary "" ".candidate" (eq $c.track $root.Values.release.active) }}
    consumerGroup: {{ $kafka.consumerGroup }}{{ $candidate }}
    topic: {{ $kafka.topicPrefix }}user.query{{ $candidate }}
    lagThreshold: {{ $a.lagMessages | quote }}
    offsetResetPolicy: earliest # as the workers do
    {{- if hasSuffix "SSL" $kafka.securityProtocol }}
    tls: enable
    {{- end }}
    {{- if hasPrefix "SASL" $kafka.securityProtocol }}
    sasl: scram_sha512
    {{- end }}
  {{- if hasPrefix "SASL" $kafka.securityProtocol }}
  authenticationRef: {name: {{ include "kefu.fullname" $root }}-kafka}
  {{- end }}
{{- if $a.prometheus }}
- type: prometheus
  metricType: Value
  metadata:
    {{- include "kefu.prometheusTrigger" (list $a.prometheus (printf "max(kefu:inbox_lag_seconds{%s})" $ownRecord) $a.lagSeconds) | nindent 4 }}
{{- end }}
{{- else if eq $c.base "gateway" }}
- type: prometheus
  metadata:
    {{- include "kefu.prometheusTrigger" (list $a.prometheus (printf "sum(kefu_streams_open{%s})" $ownSeries) $a.connections) | nindent 4 }}
- type: prometheus
  metricType: Value
  metadata:
    {{- include "kefu.prometheusTrigger" (list $a.prometheus (printf "max(kefu:loop_late_p99_ms{%s})" $ownRecord) $a.loopLateMs) | nindent 4 }}
{{- end }}
{{- end -}}
