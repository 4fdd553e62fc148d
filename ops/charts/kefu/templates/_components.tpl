{{/*
What there is, and who talks to whom: every other template goes over this list. A new process is one more entry.

  base       the component, whichever track it is of: the key of its values, its Secret and service account
  track      blue or green, where a release has it twice; see _release.tpl
  image      that it runs
  command    of the container
  ports      by name; `probes` says which one has /livez, /readyz and /metrics
  secrets    settings that come from the component's Secret, each as a file
  settings   the others
  calls      components and servers that it talks to: its NetworkPolicy, and the callers' side of theirs
  stopSeconds  what it needs after preStop: with preStopSeconds and stopMarginSeconds the grace period
  paths      writable directories; the root file system is read-only
  tls        has a certificate for calls between components
  model      what a worker serves
  release    reads the release's plan while it runs
*/}}
{{- define "kefu.components" -}}
{{- $v := .Values -}}
{{- range $track := list "blue" "green" }}
{{ include "kefu.track" (list $ $track) }}
{{- end }}
shop:
  base: shop
  enabled: {{ $v.shop.enabled }}
  image: {{ include "kefu.image" (list . $v.image.services) }}
  command: [python, -m, ops.local.shop]
  ports: {http: 8090}
  probes: http
  secrets: [KEFU_SHOP_DATABASE_URL, KEFU_SHOP_TOKEN]
  settings:
    KEFU_SHOP_HOST: 0.0.0.0
    KEFU_SHOP_PORT: 8090
  calls: []
  stopSeconds: 5 # ops.local.shop.app.STOP_S
  paths: [/tmp, /data]
{{- end -}}

{{/* What a track has of its own. Called with (list root track). */}}
{{- define "kefu.track" -}}
{{- $root := index . 0 -}}
{{- $track := index . 1 -}}
{{- $v := $root.Values -}}
{{- $suffix := ternary "" "-green" (eq $track "blue") -}}
{{- $name := include "kefu.fullname" $root -}}
{{- $enabled := or (eq $track $v.release.active) $v.release.candidate -}}
{{- $model := include "kefu.model" . | fromYaml -}}
gateway{{ $suffix }}:
  base: gateway
  track: {{ $track }}
  enabled: {{ $enabled }}
  image: {{ include "kefu.trackImage" (list $root $track "services") }}
  command: [python, -m, kefu, gateway]
  ports: {http: 8080}
  probes: http
  secrets: [KEFU_TENANTS, KEFU_RECEIPT_SECRET, REDIS_URL]
  settings:
    KEFU_GATEWAY_HOST: 0.0.0.0
    KEFU_GATEWAY_PORT: 8080
    KEFU_GATEWAY_DRAIN_S: {{ $v.gateway.drainSeconds }}
    KEFU_MAX_STREAMS: {{ $v.gateway.maxStreams }}
    KEFU_PROXIES: {{ ternary $v.ingress.proxies 0 $v.ingress.enabled }}
    KEFU_DEMO_LOGIN: {{ ternary 1 0 $v.gateway.demoLogin }}
  calls: [kafka, redis]
  stopSeconds: {{ $v.gateway.drainSeconds }}
  paths: [/tmp]
worker{{ $suffix }}:
  base: worker
  track: {{ $track }}
  enabled: {{ $enabled }}
  image: {{ include "kefu.trackImage" (list $root $track "worker") }}
  command: [python, -m, kefu, worker]
  ports: {rasa: 5005, health: 5006}
  probes: health
  secrets: [REDIS_URL, KEFU_RASA_TOKEN]
  settings:
    KEFU_WORKER_HOST: 0.0.0.0
    KEFU_WORKER_PORT: 5005
    KEFU_WORKER_HEALTH_PORT: 5006
    KEFU_DRAIN_S: {{ $v.worker.drainSeconds }}
    KEFU_MODEL: {{ ternary "/models/kefu.tar.gz" "/app/models/kefu.tar.gz" (eq $model.source "fetch") }}
    ACTION_ENDPOINT_URL: {{ ternary "https" "http" $v.tls.enabled }}://{{ $name }}-actions{{ $suffix }}:5055/webhook
    KEFU_TRACK: {{ $track }}
    KEFU_RELEASE_PLAN: /etc/kefu/release/release.json
  calls: [kafka, redis, actions{{ $suffix }}]
  model: {{ $model | toJson }}
  release: true
  tls: true
  stopSeconds: {{ $v.worker.drainSeconds }}
  paths: [/tmp{{ if eq $model.source "fetch" }}, /models{{ end }}]
actions{{ $suffix }}:
  base: actions
  track: {{ $track }}
  enabled: {{ $enabled }}
  image: {{ include "kefu.trackImage" (list $root $track "services") }}
  command: [python, -m, kefu, actions]
  ports: {http: 5055, health: 5057}
  probes: health
  secrets: [KEFU_SHOP_TOKEN]
  settings:
    KEFU_ACTION_HOST: 0.0.0.0
    KEFU_ACTION_PORT: 5055
    KEFU_ACTION_HEALTH_PORT: 5057
    SHOP_URL: {{ default (printf "http://%s-shop:8090" $name) $v.actions.shopUrl }}
  calls: [{{ if $v.shop.enabled }}shop{{ end }}]
  tls: true
  stopSeconds: 15 # actions.server.STOP_S and actions.shop.background.STOP_S
  paths: [/tmp]
{{- end -}}

{{/*
What isn't a server, so that only some templates go over it. Besides what components have:

  schedule   of a CronJob; empty for one that is suspended, and from which an operator has a job made
  deadlineSeconds  after which its pod is ended
  claim      the volume of backups is mounted as /backups
*/}}
{{- define "kefu.jobComponents" -}}
{{- $hold := list "python" "-c" "import signal; signal.pause()" | toJson -}}
{{- $image := include "kefu.trackImage" (list . .Values.release.active "services") -}}
topics:
  base: topics
  enabled: {{ .Values.kafka.topics.enabled }}
  image: {{ include "kefu.trackImage" (list . (include "kefu.newest" .) "services") }}
  command: [python, -m, kefu, topics]
  ports: {}
  secrets: []
  settings:
    KEFU_TOPIC_PARTITIONS: {{ .Values.kafka.partitions }}
    KEFU_TOPIC_REPLICATION: {{ .Values.kafka.replication }}
    {{- if and .Values.kafka.topics.acls (hasPrefix "SASL" .Values.kafka.securityProtocol) }}
    {{- range $role, $user := omit .Values.kafka.usernames "topics" }}
    KEFU_ACL_{{ upper $role }}: {{ $user }}
    {{- end }}
    {{- end }}
  calls: [kafka]
  paths: [/tmp]
backup:
  base: backup
  enabled: {{ .Values.backup.enabled }}
  image: {{ $image }}
  command: [python, -m, kefu, backup, rotate, /backups, --keep, {{ .Values.backup.keep | quote }}]
  schedule: {{ .Values.backup.schedule | quote }}
  deadlineSeconds: {{ .Values.backup.deadlineSeconds }}
  claim: true
  ports: {}
  secrets: []
  settings: {}
  calls: [kafka]
  paths: [/tmp]
{{- /* Pods that wait to be entered by `kubectl exec`, each with one role's rights on Kafka. */}}
{{- range $name, $base := dict "operator" "operator" "restore" "backup" }}
{{ $name }}:
  base: {{ $base }}
  enabled: {{ (index $.Values $base).enabled }}
  image: {{ $image }}
  command: {{ $hold }}
  schedule: ""
  deadlineSeconds: {{ $.Values.operator.lifetimeSeconds }}
  claim: {{ eq $base "backup" }}
  ports: {}
  secrets: []
  settings: {}
  calls: [kafka]
  paths: [/tmp]
{{- end }}
{{- end -}}

{{/* Names of the settings that come from a component's Secret, as JSON. Called with (list root component entry). */}}
{{- define "kefu.ownSecrets" -}}
{{- $root := index . 0 -}}
{{- $keys := (index . 2).secrets -}}
{{- if and (has "kafka" (index . 2).calls) (hasPrefix "SASL" $root.Values.kafka.securityProtocol) -}}
{{- $keys = append $keys "KAFKA_SASL_PASSWORD" -}}
{{- end -}}
{{- if $root.Values.redis.install.enabled -}}
{{- $keys = without $keys "REDIS_URL" -}}{{- /* the server of the release has no password */ -}}
{{- end -}}
{{- dict "keys" $keys | toJson -}}
{{- end -}}

{{- define "kefu.redisUrl" -}}
redis://{{ include "kefu.fullname" . }}-redis:6379/0
{{- end -}}

{{- define "kefu.brokers" -}}
{{- if .Values.kafka.install.enabled -}}
{{ include "kefu.fullname" . }}-kafka:9092
{{- else -}}
{{ .Values.kafka.brokers }}
{{- end -}}
{{- end -}}
