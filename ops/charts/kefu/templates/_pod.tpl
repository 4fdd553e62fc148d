{{/* Environment of a component. Called with (list root component entry values). */}}
{{- define "kefu.env" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $c := index . 2 -}}
{{- $v := $root.Values -}}
{{- $env := dict "HOME" "/tmp" "PYTHONUNBUFFERED" "1" -}}
{{- range $key, $value := $c.settings }}{{- $_ := set $env $key ($value | toString) }}{{- end }}
{{- if has "kafka" $c.calls -}}
{{- $_ := set $env "KAFKA_BROKERS" (include "kefu.brokers" $root) -}}
{{- $_ := set $env "KAFKA_SECURITY_PROTOCOL" $v.kafka.securityProtocol -}}
{{- $_ := set $env "KEFU_TOPIC_PREFIX" $v.kafka.topicPrefix -}}
{{- $_ := set $env "KEFU_CONSUMER_GROUP" $v.kafka.consumerGroup -}}
{{- if hasPrefix "SASL" $v.kafka.securityProtocol }}{{- $_ := set $env "KAFKA_SASL_USERNAME" (index $v.kafka.usernames $c.base) }}{{- end }}
{{- if and $v.kafka.ca.secret (hasSuffix "SSL" $v.kafka.securityProtocol) }}{{- $_ := set $env "KAFKA_CA_FILE" "/etc/kefu/kafka-ca/ca.crt" }}{{- end }}
{{- end -}}
{{- if and $c.tls $v.tls.enabled }}{{- $_ := set $env "KEFU_TLS_DIRECTORY" "/etc/kefu/tls" }}{{- end }}
{{- if has "redis" $c.calls -}}
{{- $_ := set $env "KEFU_KEY_PREFIX" $v.redis.keyPrefix -}}
{{- $_ := set $env "KEFU_REDIS_WAIT_REPLICAS" ($v.redis.waitReplicas | toString) -}}
{{- end -}}
{{- if and (has "redis" $c.calls) $v.redis.install.enabled }}{{- $_ := set $env "REDIS_URL" (include "kefu.redisUrl" $root) }}{{- end }}
{{- range (include "kefu.ownSecrets" (list $root $component $c) | fromJson).keys -}}
{{- $_ := set $env (printf "%s_FILE" .) (printf "/etc/kefu/secrets/%s" .) -}}
{{- end -}}
{{- range $key, $value := (index . 3).env }}{{- $_ := set $env $key $value }}{{- end }}
{{- range $i, $key := keys $env | sortAlpha }}
{{- if $i }}
{{ end -}}
- name: {{ $key }}
  value: {{ index $env $key | toString | quote }}
{{- end }}
{{- end -}}

{{- define "kefu.mounts" -}}
{{- $root := index . 0 -}}
{{- $c := index . 2 -}}
{{- range $c.paths }}
- name: {{ trimPrefix "/" . }}
  mountPath: {{ . }}
{{- end }}
{{- if $c.claim }}
- name: backups
  mountPath: /backups
{{- end }}
{{- if (include "kefu.ownSecrets" . | fromJson).keys }}
- name: secrets
  mountPath: /etc/kefu/secrets
  readOnly: true
{{- end }}
{{- if $c.release }}
- name: release
  mountPath: /etc/kefu/release
  readOnly: true
{{- end }}
{{- if and $c.tls $root.Values.tls.enabled }}
- name: tls
  mountPath: /etc/kefu/tls
  readOnly: true
{{- end }}
{{- range $server := list "kafka" "redis" }}
{{- if and (has $server $c.calls) (index $root.Values $server).ca.secret }}
- name: {{ $server }}-ca
  mountPath: /etc/kefu/{{ $server }}-ca
  readOnly: true
{{- end }}
{{- end }}
{{- end -}}

{{- define "kefu.volumes" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $c := index . 2 -}}
{{- range $c.paths }}
- name: {{ trimPrefix "/" . }}
  emptyDir:
    sizeLimit: 512Mi
{{- end }}
{{- if $c.claim }}
- name: backups
  persistentVolumeClaim: {claimName: {{ default (printf "%s-backup" (include "kefu.fullname" $root)) $root.Values.backup.volume.existingClaim }}}
{{- end }}
{{- with (include "kefu.ownSecrets" . | fromJson).keys }}
- name: secrets
  {{- if eq $root.Values.secrets.source "vault" }}
  csi:
    driver: secrets-store.csi.k8s.io
    readOnly: true
    volumeAttributes:
      secretProviderClass: {{ include "kefu.secretName" (list $root $c.base) }}
  {{- else }}
  secret:
    secretName: {{ include "kefu.secretName" (list $root $c.base) }}
    defaultMode: 0440
    items: # its own alone, whatever else the Secret holds
    {{- range . }}
      - key: {{ . }}
        path: {{ . }}
    {{- end }}
  {{- end }}
{{- end }}
{{- if $c.release }}
- name: release
  configMap: {name: {{ include "kefu.fullname" $root }}-release}
{{- end }}
{{- if and $c.tls $root.Values.tls.enabled }}
- name: tls
  secret:
    secretName: {{ include "kefu.fullname" $root }}-{{ $component }}-tls
    defaultMode: 0440
{{- end }}
{{- range $server := list "kafka" "redis" }}
{{- with (index $root.Values $server).ca }}
{{- if and (has $server $c.calls) .secret }}
- name: {{ $server }}-ca
  secret:
    secretName: {{ .secret }}
    items: [{key: {{ .key }}, path: ca.crt}]
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Pod Security "restricted". */}}
{{- define "kefu.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "kefu.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What pods of all components have alike. Called with (list root component entry values). */}}
{{- define "kefu.podCommon" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index . 3 -}}
serviceAccountName: {{ include "kefu.fullname" $root }}-{{ dig "base" $component (index . 2) }}
automountServiceAccountToken: false # none of them talks to the API server
enableServiceLinks: false
securityContext:
  {{- include "kefu.podSecurity" $root | nindent 2 }}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "kefu.spread" -}}
{{- $root := index . 0 -}}
{{- range $key, $topology := dict "zone" "topology.kubernetes.io/zone" "node" "kubernetes.io/hostname" }}
{{- with index $root.Values.topologySpread $key }}
- maxSkew: 1
  topologyKey: {{ $topology }}
  whenUnsatisfiable: {{ . }}
  labelSelector:
    matchLabels:
      {{- include "kefu.selector" $ | nindent 6 }}
  matchLabelKeys: [pod-template-hash] # the old pods of a rolling update don't count
{{- end }}
{{- end }}
{{- end -}}

{{- define "kefu.probes" -}}
{{- $c := index . 0 -}}
{{- with (index . 1).probes -}}
startupProbe: # that it serves at all: whether Kafka and Redis are there is not for a restart to mend
  httpGet: {path: /livez, port: {{ $c.probes }}}
  periodSeconds: 2
  timeoutSeconds: 3
  failureThreshold: {{ div (add .startupSeconds 1) 2 }}
readinessProbe:
  httpGet: {path: /readyz, port: {{ $c.probes }}}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ .readinessFailures }}
livenessProbe:
  httpGet: {path: /livez, port: {{ $c.probes }}}
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: {{ .livenessFailures }}
{{- end }}
{{- end -}}
