{{/* How runs become pods (dagster.yaml's run_launcher) and crawls become Jobs (crawls.yaml). */}}

{{- define "gossamer.runLauncher" -}}
{{- $name := include "gossamer.fullname" . -}}
module: dagster_k8s
class: K8sRunLauncher
config:
  # The image is the code location's (DAGSTER_CURRENT_IMAGE): a run keeps the one that its code was loaded from.
  job_namespace: {{ .Release.Namespace }}
  service_account_name: {{ $name }}-run
  instance_config_map: {{ $name }}
  dagster_home: /opt/dagster
  image_pull_policy: {{ .Values.image.pullPolicy }}
  {{- with .Values.image.pullSecrets }}
  image_pull_secrets: {{- range . }}
    - name: {{ . }}
  {{- end }}
  {{- end }}
  env_config_maps: [{{ $name }}-env]
  {{- with include "gossamer.envSecrets" . | fromJsonArray }}
  env_secrets: {{ toJson . }}
  {{- end }}
  labels: {{- include "gossamer.podLabels" (dict "root" . "component" "run") | nindent 4 }}
  resources: {{- toYaml .Values.runs.resources | nindent 4 }}
  security_context: {{- include "gossamer.containerSecurity" . | nindent 4 }}
  volumes:
    {{- include "gossamer.volumes" . | replace "- name: tmp\n  emptyDir: {}" (printf "- name: tmp\n  emptyDir: {sizeLimit: %s}" .Values.runs.scratch) | nindent 4 }}
    {{- include "gossamer.codeVolumes" . | trim | nindent 4 }}
  volume_mounts:
    {{- include "gossamer.mounts" . | nindent 4 }}
    {{- include "gossamer.codeMounts" . | trim | nindent 4 }}
  run_k8s_config:
    {{- $ours := dict
      "container_config" (dict "env" (include "gossamer.secretVariables" . | fromYamlArray))
      "pod_spec_config" (merge
        (dict "security_context" (include "gossamer.podSecurity" . | fromYaml) "termination_grace_period_seconds" (int .Values.runs.grace))
        (include "gossamer.scheduling" (dict "root" . "of" .Values.runs) | fromYaml))
      "job_spec_config" (dict "ttl_seconds_after_finished" (int .Values.runs.keepFinished)) }}
    {{- $ours = set $ours "pod_spec_config" (omit $ours.pod_spec_config "imagePullSecrets") }}
    {{- include "gossamer.mergeRaw" (dict "onto" $ours "from" .Values.runs.kubernetes) | nindent 4 }}
{{- end }}

{{/* The file that gossamer.cluster reads: how a crawl's Job is made here. */}}
{{- define "gossamer.crawls" -}}
{{- $crawls := .Values.crawls -}}
namespace: {{ include "gossamer.crawlNamespace" . }}
image: {{ $crawls.image | default (include "gossamer.image" .) }}
image_pull_policy: {{ .Values.image.pullPolicy }}
image_pull_secrets: {{ toJson .Values.image.pullSecrets }}
service_account: {{ include "gossamer.fullname" . }}-crawl
env:
  {{- include "gossamer.s3.environment" . | nindent 2 }}
  {{- if or .Values.sources .Values.demo.enabled }}
  GOSSAMER_SOURCES: /sources
  {{- end }}
  {{- with $crawls.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
config_maps: {{ toJson $crawls.configMaps }}
secrets: {{ concat (compact (list (include "gossamer.s3.secret" .))) $crawls.secrets | uniq | toJson }}
cpu: {{ $crawls.cpu | quote }}
memory: {{ $crawls.memory | quote }}
cpu_limit: {{ $crawls.cpuLimit | toJson }}
scratch: {{ $crawls.scratch | quote }}
node_selector: {{ toJson $crawls.nodeSelector }}
tolerations: {{ toJson $crawls.tolerations }}
priority_class: {{ $crawls.priorityClass | toJson }}
spot:
  node_selector: {{ toJson $crawls.spot.nodeSelector }}
  tolerations: {{ toJson $crawls.spot.tolerations }}
start_within: {{ $crawls.startWithin }}
keep_finished: {{ $crawls.keepFinished }}
node_lost_after: {{ $crawls.nodeLostAfter }}
cancelled: {{ $crawls.cancelled }}
{{- $ours := dict }}
{{- if or .Values.sources .Values.demo.enabled }}
{{- $ours = dict
  "container_config" (dict "volume_mounts" (list (dict "name" "sources" "mount_path" "/sources" "read_only" true)))
  "pod_spec_config" (dict "volumes" (list (mergeOverwrite (include "gossamer.sourcesVolume" . | fromYaml) (dict "name" "sources")))) }}
{{- end }}
{{- with include "gossamer.mergeRaw" (dict "onto" $ours "from" $crawls.kubernetes) | fromYaml }}
kubernetes: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The raw form of dagster-k8s, of the chart and of the values: lists are joined, as dagster-k8s itself joins them. */}}
{{- define "gossamer.mergeRaw" -}}
{{- $merged := deepCopy .onto -}}
{{- range $part, $fields := .from -}}
{{- $there := deepCopy (get $merged $part | default dict) -}}
{{- range $field, $value := $fields -}}
{{- $had := get $there $field -}}
{{- if and $had (kindIs "slice" $value) -}}
{{- $_ := set $there $field (concat $had $value) -}}
{{- else if and $had (kindIs "map" $value) -}}
{{- $_ := set $there $field (mergeOverwrite (deepCopy $had) $value) -}}
{{- else -}}
{{- $_ := set $there $field $value -}}
{{- end -}}
{{- end -}}
{{- $_ := set $merged $part $there -}}
{{- end -}}
{{- toYaml $merged -}}
{{- end }}
