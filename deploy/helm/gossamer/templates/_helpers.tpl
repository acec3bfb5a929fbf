{{/* Names, labels, and what several pods share. Nothing here makes an object. */}}

{{- define "gossamer.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "gossamer.crawlNamespace" -}}
{{- .Values.crawls.namespace | default (printf "%s-crawls" .Release.Namespace) -}}
{{- end }}

{{- define "gossamer.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end }}

{{/* Labels of every object. Those of pods are fewer (podLabels): a new chart version must not restart a database. */}}
{{- define "gossamer.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/name: gossamer
app.kubernetes.io/part-of: gossamer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* (dict "root" $ "component" "webserver"): what selects the pods of one component, and labels them. */}}
{{- define "gossamer.podLabels" -}}
app.kubernetes.io/name: gossamer
app.kubernetes.io/part-of: gossamer
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* A change of configuration restarts the pods that read it at their start. */}}
{{- define "gossamer.checksums" -}}
checksum/config: {{ include (print $.Template.BasePath "/config.yaml") . | sha256sum }}
{{- if or .Values.sources .Values.demo.enabled }}
checksum/sources: {{ include (print $.Template.BasePath "/sources.yaml") . | sha256sum }}
{{- end }}
{{- end }}

{{- define "gossamer.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "gossamer.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* (dict "root" $ "of" .Values.daemon): where a component's pods may run, and how soon they leave a lost node. */}}
{{- define "gossamer.scheduling" -}}
{{- with .of.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
{{- range list "not-ready" "unreachable" }}
  - {key: node.kubernetes.io/{{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: {{ $.root.Values.nodeLostAfter }}}
{{- end }}
{{- with .of.tolerations }}
{{- toYaml . | nindent 2 }}
{{- end }}
{{- with .of.priorityClass }}
priorityClassName: {{ . }}
{{- end }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{- define "gossamer.postgres.host" -}}
{{- if .Values.postgres.bundled.enabled -}}
{{- include "gossamer.fullname" . }}-postgres
{{- else -}}
{{- .Values.postgres.host -}}
{{- end -}}
{{- end }}

{{- define "gossamer.postgres.secret" -}}
{{- if .Values.postgres.bundled.enabled -}}
name: {{ include "gossamer.fullname" . }}-postgres
key: password
{{- else -}}
name: {{ .Values.postgres.secret.name }}
key: {{ .Values.postgres.secret.key }}
{{- end -}}
{{- end }}

{{- define "gossamer.s3.secret" -}}
{{- ternary (printf "%s-s3" (include "gossamer.fullname" .)) .Values.s3.secret .Values.s3.bundled.enabled -}}
{{- end }}

{{- define "gossamer.s3.bucket" -}}
{{- .Values.s3.bucket | default (ternary "gossamer" "" .Values.s3.bundled.enabled) -}}
{{- end }}

{{/* What finds S3, for platform, runs and crawls alike. Credentials are a secret or a role. */}}
{{- define "gossamer.s3.environment" -}}
{{- $endpoint := .Values.s3.endpoint -}}
{{- if .Values.s3.bundled.enabled -}}
{{- $endpoint = printf "http://%s-s3.%s.svc:8333" (include "gossamer.fullname" .) .Release.Namespace -}}
{{- end -}}
AWS_REGION: {{ .Values.s3.region }}
AWS_DEFAULT_REGION: {{ .Values.s3.region }}
{{- with $endpoint }}
AWS_ENDPOINT_URL: {{ . }}
{{- if hasPrefix "http://" . }}
AWS_ALLOW_HTTP: "true"
{{- end }}
{{- end }}
{{- end }}

{{/* Where the lake is. */}}
{{- define "gossamer.lake" -}}
s3://{{ include "gossamer.s3.bucket" . }}{{ with .Values.s3.prefix | trimAll "/" }}/{{ . }}{{ end }}
{{- end }}

{{/* Where people's browsers find the reports; empty where nobody knows. */}}
{{- define "gossamer.reports.url" -}}
{{- $reports := .Values.reports -}}
{{- if $reports.url -}}
{{- $reports.url -}}
{{- else if and $reports.enabled $reports.ingress.enabled -}}
https://{{ $reports.ingress.host }}
{{- end -}}
{{- end }}

{{/* Variables of every process of the platform and of runs; secrets are not among them. */}}
{{- define "gossamer.environment" -}}
GOSSAMER_LAKE: {{ include "gossamer.lake" . }}
GOSSAMER_LAUNCHER: kubernetes
GOSSAMER_KUBERNETES: /etc/gossamer/crawls.yaml
GOSSAMER_PARKING: continuous
GOSSAMER_CRAWLS: /tmp/crawls
{{- with include "gossamer.reports.url" . }}
GOSSAMER_REPORTS_URL: {{ . }}
{{- end }}
{{- if .Values.warehouse.enabled }}
GOSSAMER_WAREHOUSE: /warehouse/warehouse.duckdb
{{- end }}
{{- if or .Values.sources .Values.demo.enabled }}
GOSSAMER_SOURCES: /sources
{{- end }}
GOSSAMER_PG_HOST: {{ include "gossamer.postgres.host" . }}
GOSSAMER_PG_PORT: {{ .Values.postgres.port | quote }}
GOSSAMER_PG_DATABASE: {{ .Values.postgres.database }}
GOSSAMER_PG_USER: {{ .Values.postgres.user }}
{{- with .Values.postgres.sslmode }}
PGSSLMODE: {{ . }}
{{- end }}
GOSSAMER_LOGS_BUCKET: {{ .Values.s3.logs.bucket | default (include "gossamer.s3.bucket" .) }}
GOSSAMER_LOGS_PREFIX: {{ .Values.s3.logs.prefix }}
{{ include "gossamer.s3.environment" . }}
DAGSTER_HOME: /opt/dagster
DAGSTER_DISABLE_TELEMETRY: "1"
HOME: /tmp
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Names of the secrets whose keys become variables of the platform and of runs, as a JSON list. */}}
{{- define "gossamer.envSecrets" -}}
{{- concat (compact (list (include "gossamer.s3.secret" .))) .Values.envSecrets | uniq | toJson -}}
{{- end }}

{{/* Variables that are one key of a secret. */}}
{{- define "gossamer.secretVariables" -}}
- name: GOSSAMER_PG_PASSWORD
  valueFrom: {secretKeyRef: {{ include "gossamer.postgres.secret" . | fromYaml | toJson }}}
{{- with .Values.mongo.secret }}
{{- if .name }}
- name: GOSSAMER_MONGO_URI
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- end }}
{{- end }}
{{- end }}

{{- define "gossamer.envFrom" -}}
- configMapRef: {name: {{ include "gossamer.fullname" . }}-env}
{{- range include "gossamer.envSecrets" . | fromJsonArray }}
- secretRef: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* Files of every process: the read-only configuration, and the little that may be written. */}}
{{- define "gossamer.volumes" -}}
- name: config
  configMap: {name: {{ include "gossamer.fullname" . }}}
- name: home
  emptyDir: {}
- name: tmp
  emptyDir: {}
{{- end }}

{{- define "gossamer.mounts" -}}
- {name: config, mountPath: /etc/gossamer, readOnly: true}
- {name: home, mountPath: /opt/dagster}
- {name: config, mountPath: /opt/dagster/dagster.yaml, subPath: dagster.yaml, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{/* Files of the processes that load the definitions: code location and runs. */}}
{{- define "gossamer.codeVolumes" -}}
{{- if or .Values.sources .Values.demo.enabled }}
- name: sources
  {{- include "gossamer.sourcesVolume" . | nindent 2 }}
{{- end }}
{{- if .Values.warehouse.enabled }}
- name: warehouse
  persistentVolumeClaim: {claimName: {{ .Values.warehouse.existingClaim | default (printf "%s-warehouse" (include "gossamer.fullname" .)) }}}
{{- else }}
# Nothing where the dbt project is: no marts, because there is no disk for their warehouse.
- name: no-marts
  emptyDir: {}
{{- end }}
{{- end }}

{{- define "gossamer.codeMounts" -}}
{{- if or .Values.sources .Values.demo.enabled }}
- {name: sources, mountPath: /sources, readOnly: true}
{{- end }}
{{- if .Values.warehouse.enabled }}
- {name: warehouse, mountPath: /warehouse}
{{- else }}
- {name: no-marts, mountPath: /app/dbt_project, readOnly: true}
{{- end }}
{{- end }}

{{/* Sources that are given as values: a ConfigMap's flat keys as folders. */}}
{{- define "gossamer.sourcesVolume" -}}
configMap:
  name: {{ include "gossamer.fullname" . }}-sources
  items:
  {{- range $key, $_ := include "gossamer.sourceFiles" . | fromYaml }}
    - {key: {{ $key }}, path: {{ $key | replace "__" "/" }}}
  {{- end }}
{{- end }}

{{- define "gossamer.sourceFiles" -}}
{{- range $source, $files := .Values.sources }}
{{- range $name, $content := $files }}
{{ $source }}__{{ $name }}: {{ $content | toJson }}
{{- end }}
{{- end }}
{{- if .Values.demo.enabled }}
{{- $shop := printf "http://%s-shop.%s.svc:8765" (include "gossamer.fullname" .) .Release.Namespace }}
{{- range $path, $_ := .Files.Glob "files/demo/*/*" }}
{{ base (dir $path) }}__{{ base $path }}: {{ $.Files.Get $path | replace "http://127.0.0.1:8765" $shop | toJson }}
{{- end }}
{{- end }}
{{- end }}

{{/* Waits until Postgres answers: otherwise the first installation is a row of restarts. */}}
{{- define "gossamer.waitForPostgres" -}}
- name: wait-for-postgres
  image: {{ include "gossamer.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - python
    - -c
    - |
      import os, sys, time, psycopg2
      place = {"host": "HOST", "port": "PORT", "dbname": "DATABASE", "user": "USER", "password": "PASSWORD"}
      place = {name: os.environ[f"GOSSAMER_PG_{variable}"] for name, variable in place.items()}
      for attempt in range(150):
          try:
              psycopg2.connect(**place, connect_timeout=5).close()
              sys.exit()
          except psycopg2.OperationalError as error:
              reason = str(error).strip()
              if attempt % 10 == 0:
                  print(reason, flush=True)
              time.sleep(2)
      sys.exit(f"Postgres does not answer: {reason}")
  env: {{- include "gossamer.secretVariables" . | nindent 4 }}
  envFrom: {{- include "gossamer.envFrom" . | nindent 4 }}
  resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 128Mi}}
  securityContext: {{- include "gossamer.containerSecurity" . | nindent 4 }}
{{- end }}

{{/* Annotations of a service account: (dict "root" $ "name" "run"). */}}
{{- define "gossamer.accountAnnotations" -}}
{{- $role := .root.Values.s3.roleArn -}}
{{- if eq .name "crawl" }}{{ $role = .root.Values.s3.crawlsRoleArn | default $role }}{{ end -}}
{{- if eq .name "reports" }}{{ $role = .root.Values.s3.reportsRoleArn | default $role }}{{ end -}}
{{- with $role }}
eks.amazonaws.com/role-arn: {{ . }}
{{- end }}
{{- with get .root.Values.serviceAccounts.annotations .name }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What a schema cannot say in words: values that need each other. */}}
{{- define "gossamer.validate" -}}
{{- if hasKey .Values.instance "run_launcher" }}{{ fail "\n\ninstance.run_launcher is the chart's own: what it may say is in `runs`." }}{{ end }}
{{- if not .Values.postgres.bundled.enabled }}
{{- if not .Values.postgres.host }}{{ fail "\n\nNo Postgres: set postgres.host and postgres.secret.name, or postgres.bundled.enabled=true for a trial." }}{{ end }}
{{- if not .Values.postgres.secret.name }}{{ fail "\n\nNo password for Postgres: set postgres.secret.name to a secret of the release's namespace that holds it." }}{{ end }}
{{- else if .Values.postgres.host }}{{ fail "\n\nTwo Postgres: remove postgres.host, or set postgres.bundled.enabled=false." }}
{{- end }}
{{- if not .Values.s3.bundled.enabled }}
{{- if not .Values.s3.bucket }}{{ fail "\n\nNo lake: set s3.bucket, or s3.bundled.enabled=true for a trial." }}{{ end }}
{{- else if or .Values.s3.endpoint .Values.s3.secret .Values.s3.roleArn }}{{ fail "\n\nTwo S3: remove s3.endpoint, s3.secret and s3.roleArn, or set s3.bundled.enabled=false." }}
{{- end }}
{{- if and .Values.s3.secret .Values.s3.roleArn }}{{ fail "\n\nTwo kinds of S3 credentials: keep s3.secret or s3.roleArn." }}{{ end }}
{{- if eq (include "gossamer.crawlNamespace" .) .Release.Namespace }}{{ fail "\n\nCrawls need a namespace of their own: crawls.namespace is the release's, where the platform's secrets are." }}{{ end }}
{{- end }}

{{/* The spec of a claim: (dict "size" "5Gi" "storageClass" "" "accessMode" "ReadWriteOnce"). */}}
{{- define "gossamer.claim" -}}
accessModes: [{{ .accessMode | default "ReadWriteOnce" }}]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end }}
