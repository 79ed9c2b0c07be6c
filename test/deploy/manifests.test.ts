import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { registerEdge } from '../../cli/commands/edge.ts'
import { registerGpuNode } from '../../cli/commands/gpu-node.ts'
import { NodeMetrics } from '../../gpu-node/observe/node-metrics.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { ServedStreams } from '../../gpu-node/requests/served-streams.ts'
import { type GpuNodeServer, startServer } from '../../gpu-node/server.ts'
import { silent } from '../support/logs.ts'
import { requires } from '../support/requires.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

const folder = join(packageRoot, 'deploy')
const read = (path: string) => readFileSync(join(folder, path), 'utf8')
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
const yamlFiles = files.filter((file) => file.endsWith('.yaml'))

/** The fields of a manifest that are checked here. */
interface Manifest {
  apiVersion?: string
  kind?: string
  metadata?: { name?: string }
  spec?: { replicas?: number; scaleTargetRef?: { kind?: string; name?: string } }
}

function documents(file: string) {
  return parseAllDocuments(read(file), { strict: true, uniqueKeys: true })
}

function manifest<T>(file: string, kind: string): T {
  const found = documents(file)
    .map((document): Manifest => document.toJS())
    .find((candidate) => candidate.kind === kind)
  return found as T
}

interface StatefulSet {
  spec: {
    selector: { matchLabels: object }
    template: {
      metadata: { labels: object }
      spec: {
        terminationGracePeriodSeconds: number
        containers: {
          args: string[]
          env: { name: string; valueFrom?: { secretKeyRef?: { name: string; key: string } } }[]
          ports: { name: string; containerPort: number }[]
          lifecycle: { preStop: { exec: { command: string[] } } }
          [probe: `${string}Probe`]: { httpGet: { path: string; port: string } }
        }[]
      }
    }
  }
}

const pod = manifest<StatefulSet>('kubernetes/gpu-node.yaml', 'StatefulSet').spec.template
const [container] = pod.spec.containers
if (!container) throw new Error('the StatefulSet has no container')

/** The arguments after the name of a command in the Dockerfile. */
function entryArgs(command: string): string[] {
  const entries = [...read('Dockerfile').matchAll(/^ENTRYPOINT (.*)$/gm)].map(([, json = '']) =>
    JSON.parse(json),
  )
  return entries.find((entry) => entry[2] === command)?.slice(3) ?? []
}
const dockerArgs = entryArgs('gpu-node')
const unit = read('systemd/apar-gpu-node.service')
const unitArgs = (/^ExecStart=.* gpu-node (.*) \$APAR_ARGS$/m.exec(unit)?.[1] ?? '').split(' ')
const unitExample = (/^#\s+APAR_ARGS=(.*)$/m.exec(unit)?.[1] ?? '').split(' ')
const dockerExample = (/apar-gpu-node (--model .*)$/m.exec(read('Dockerfile'))?.[1] ?? '').split(' ')

describe('YAML', () => {
  test.each(yamlFiles)('%s is valid YAML', (file) => {
    const all = documents(file)
    expect(all.length).toBeGreaterThan(0)
    expect(all.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([])
  })

  test.each(yamlFiles.filter((file) => file.startsWith('kubernetes/') && !file.includes('kustomization')))(
    '%s contains manifests and is listed in kustomization.yaml',
    (file) => {
      for (const document of documents(file)) {
        expect(document.toJS()).toMatchObject({
          apiVersion: expect.any(String),
          kind: expect.any(String),
          metadata: { name: expect.any(String) },
        })
      }
      const { resources } = documents('kubernetes/kustomization.yaml')[0]?.toJS() ?? {}
      expect(resources).toContain(file.replace('kubernetes/', ''))
    },
  )
})

describe('gpu node commands', () => {
  test.each([
    ['the image', dockerArgs],
    ['the comment in the Dockerfile', dockerExample],
    ['the unit', unitArgs],
    ['the comment in the unit', unitExample],
    ['the StatefulSet', container.args.map((arg) => arg.replace('$(POD_NAME)', 'pod-0'))],
  ])('%s: all flags and values are accepted by the command', (_, args) => {
    expect(args.length).toBeGreaterThan(3)
    const program = new Command()
    registerGpuNode(program)
    const command = program.commands[0]?.exitOverride().configureOutput({ writeErr: () => {} })
    expect(command?.parseOptions(args)).toMatchObject({ operands: [], unknown: [] })
  })

  test("the edge's image: all flags and values are accepted by the command", () => {
    const args = entryArgs('edge')
    expect(args.length).toBeGreaterThan(3)
    const program = new Command()
    registerEdge(program)
    const command = program.commands[0]?.exitOverride().configureOutput({ writeErr: () => {} })
    expect(command?.parseOptions(args)).toMatchObject({ operands: [], unknown: [] })
  })

  test('names the variables that the command reads', () => {
    const command = readFileSync(join(packageRoot, 'cli/commands/gpu-node.ts'), 'utf8')
    const secrets = container.env.filter(({ valueFrom }) => valueFrom?.secretKeyRef).map(({ name }) => name)
    expect(secrets).toEqual(['NODE_SECRET', 'METRICS_SECRET'])
    for (const name of secrets) {
      expect(command).toContain(`process.env.${name}`)
      expect(unit).toContain(`${name}=`)
      expect(read('kubernetes/kustomization.yaml')).toContain(`--from-literal=${name}=`)
    }
    expect(
      container.env.filter(({ valueFrom }) => valueFrom?.secretKeyRef?.name !== 'apar-gpu-node'),
    ).toHaveLength(2)
  })
})

describe('the edge', () => {
  const edge = manifest<StatefulSet>('kubernetes/edge.yaml', 'StatefulSet').spec
  const [inPod] = edge.template.spec.containers
  const edgeUnit = read('systemd/apar-edge.service')
  const unitExec = /^ExecStart=.* edge (.*) \$APAR_ARGS$/m.exec(edgeUnit)?.[1] ?? ''
  const unitMore = /^#\s+APAR_ARGS=(.*)$/m.exec(edgeUnit)?.[1] ?? ''

  test.each([
    ['the pod', inPod?.args ?? []],
    ['the unit', unitExec.split(' ')],
    ['the comment in the unit', unitMore.split(' ')],
  ])('of %s has flags and values that the command accepts', (_, args) => {
    expect(args.length).toBeGreaterThan(1)
    const program = new Command()
    registerEdge(program)
    const command = program.commands[0]?.exitOverride().configureOutput({ writeErr: () => {} })
    expect(command?.parseOptions(args)).toMatchObject({ operands: [], unknown: [] })
  })

  test('gets the variables that the command reads, where it runs', () => {
    const names = inPod?.env.map(({ name }) => name) ?? []
    expect(names).toEqual(['NODE_SECRET', 'APAR_ADMIN_KEY', 'METRICS_SECRET', 'NODE_HOSTS'])
    for (const name of names) expect(edgeUnit).toContain(`${name}=`)
    // The names of the nodes' pods.
    expect(read('kubernetes/edge.yaml')).toContain('"*.apar-gpu-node.apar.svc.cluster.local"')
    expect(container.args.join(' ')).toContain('.apar-gpu-node.apar.svc.cluster.local:8000')
  })

  test('writes only where it may, and runs once', () => {
    const { replicas, volumeClaimTemplates } = edge as unknown as {
      replicas: number
      volumeClaimTemplates: { metadata: { name: string } }[]
    }
    expect(replicas).toBe(1)
    expect(volumeClaimTemplates.map(({ metadata }) => metadata.name)).toEqual(['state'])
    expect(read('kubernetes/edge.yaml')).toContain('readOnlyRootFilesystem: true')
    const [, state] = / --state (\S+)/.exec(unitExec) ?? []
    expect(state).toBe(`/var/lib/${/^StateDirectory=(.*)$/m.exec(edgeUnit)?.[1]}`)
    expect(entryArgs('edge').join(' ')).toContain('--state /state')
    expect(read('kubernetes/edge.yaml')).toContain('mountPath: /state')
  })
})

const has = (name: string, ...args: string[]) => requires(name, () => execFileSync(name, args).length >= 0)

describe.skipIf(!has('systemd-analyze', '--version'))('systemd', () => {
  test.each(['apar-gpu-node', 'apar-edge'])('accepts %s.service, and finds it well protected', (name) => {
    const work = mkdtempSync(join(tmpdir(), 'apar-units-'))
    try {
      const file = join(work, `${name}.service`)
      // Where this machine's Node is.
      writeFileSync(file, read(`systemd/${name}.service`).replace('/usr/bin/node', process.execPath))
      // Warnings are printed with status 0; those of other units of the machine do not count.
      const { stderr } = spawnSync('systemd-analyze', ['verify', file], { encoding: 'utf8' })
      expect(stderr.split('\n').filter((line) => line.includes(name))).toEqual([])
      const options = ['security', '--offline=true', '--threshold=30', '--no-pager', file]
      const security = spawnSync('systemd-analyze', options, { encoding: 'utf8' })
      expect(security.status, security.stdout).toBe(0)
    } finally {
      rmSync(work, { recursive: true })
    }
  })
})

test('no autoscaled workload sets replicas: applying it again would undo the scaling', () => {
  const all = yamlFiles
    .filter((file) => file.startsWith('kubernetes/'))
    .flatMap((file) => documents(file).map((document): Manifest => document.toJS()))
  const owned = all
    .filter(({ kind }) => kind === 'ScaledObject' || kind === 'HorizontalPodAutoscaler')
    .map(({ spec }) => {
      const { kind, name } = spec?.scaleTargetRef ?? {}
      return all.find((workload) => workload.kind === kind && workload.metadata?.name === name)
    })
  expect(owned).toEqual([expect.objectContaining({ kind: 'StatefulSet' })])
  expect(owned.filter((workload) => workload?.spec && 'replicas' in workload.spec)).toEqual([])
})

describe('grace time covers the drain', () => {
  const drainSeconds = (args: readonly string[]) => Number(args[args.indexOf('--drain-seconds') + 1])
  /** Time to hand over streams and export the last spans (gpu-node/observe/tracing.ts). */
  const AFTER_SECONDS = 10

  test('in Kubernetes', () => {
    const preStop = Number(container.lifecycle.preStop.exec.command[1])
    const needed = preStop + drainSeconds(container.args) + AFTER_SECONDS
    expect(needed).toBeGreaterThan(AFTER_SECONDS)
    expect(pod.spec.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(needed)
  })

  test('under systemd', () => {
    const stop = Number(/^TimeoutStopSec=(\d+)$/m.exec(unit)?.[1])
    expect(stop).toBeGreaterThanOrEqual(drainSeconds(unitArgs) + AFTER_SECONDS)
    expect(unit).toMatch(/^KillSignal=SIGTERM$/m)
  })

  test('in a container', () => {
    expect(read('Dockerfile')).toMatch(/^STOPSIGNAL SIGTERM$/m)
  })
})

describe('probes and metrics of a gpu node', () => {
  let tiny: TinyFolder
  let server: GpuNodeServer
  let metrics: NodeMetrics
  beforeAll(async () => {
    tiny = tinyCheckpoint()
    const { runner } = await scriptedRunner(tiny)
    metrics = new NodeMetrics(runner)
    server = await startServer({
      ...{ runner, metrics, streams: new ServedStreams(runner), log: silent, registered: () => true },
      ...{ host: '127.0.0.1', port: 0, nodeSecret: 'secret' },
    })
  })
  afterAll(async () => {
    await server.close()
    tiny.remove()
  })

  const probes = Object.entries(container)
    .filter(([name]) => name.endsWith('Probe'))
    .map(([name, probe]) => [name, (probe as { httpGet: { path: string } }).httpGet.path] as const)
  const healthcheck = /127\.0\.0\.1:8000(\/\w+)/.exec(read('Dockerfile'))?.[1] ?? ''

  test.each([...probes, ['HEALTHCHECK', healthcheck] as const])('%s gets status 200', async (_, path) => {
    expect((await fetch(`http://127.0.0.1:${server.port}${path}`)).status).toBe(200)
  })

  test('readiness and liveness use different paths', () => {
    expect(Object.fromEntries(probes)).toEqual({
      startupProbe: '/healthz',
      livenessProbe: '/healthz',
      readinessProbe: '/readyz',
    })
  })

  test('every metric in alert rules and scaling triggers is exported by a gpu node', async () => {
    const text = await metrics.registry.metrics()
    const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)]
    const known = types.flatMap(([, name = '', type]) => (type === 'histogram' ? [`${name}_bucket`] : [name]))
    const asked = [read('prometheus/alerts.yaml'), read('kubernetes/autoscaling.yaml')].flatMap(
      (rules) => rules.match(/\bapar_\w+/g) ?? [],
    )
    expect(asked.length).toBeGreaterThan(6)
    expect(asked.filter((name) => !known.includes(name))).toEqual([])
  })
})

test('every alert is described in docs/operations.md', () => {
  const page = readFileSync(join(packageRoot, 'docs/operations.md'), 'utf8')
  const alerts = [...read('prometheus/alerts.yaml').matchAll(/alert: (\w+)/g)].map(([, name = '']) => name)
  expect(alerts.length).toBeGreaterThan(4)
  expect(alerts.filter((name) => !page.includes(`| ${name} |`))).toEqual([])
})

describe('the Dockerfile', () => {
  const lines = read('Dockerfile').replaceAll('\\\n', ' ').split('\n')
  const stages = lines.flatMap((line) => /^FROM \S+ AS (\S+)$/.exec(line)?.[1] ?? [])

  test('copies only files that exist and are in the build context', () => {
    const ignored = read('Dockerfile.dockerignore').split('\n')
    const copied = lines
      .filter((line) => line.startsWith('COPY ') && !line.includes('--from='))
      .flatMap((line) => line.split(/\s+/).slice(1, -1))
    expect(copied.length).toBeGreaterThan(8)
    expect(copied.filter((path) => !existsSync(join(packageRoot, path)))).toEqual([])
    expect(copied.filter((path) => !ignored.includes(`!${path}`))).toEqual([])
  })

  test('copies only from existing stages, for each backend', () => {
    const named = lines.flatMap((line) => /--from=(\S+)/.exec(line)?.[1] ?? [])
    expect(named.filter((stage) => !stages.includes(stage))).toEqual([])
    expect(stages).toEqual(expect.arrayContaining(['toolchain-cpu', 'toolchain-cuda']))
  })

  test.each(['edge', 'gpu-node'])('%s runs as an unprivileged user', (stage) => {
    const from = lines.indexOf(`FROM apar AS ${stage}`)
    const next = lines.findIndex((line, index) => index > from && line.startsWith('FROM '))
    const image = lines.slice(from, next === -1 ? undefined : next)
    expect(from).toBeGreaterThan(0)
    expect(image).toContain('USER 1000:1000')
    expect(image.filter((line) => line.startsWith('HEALTHCHECK '))).toHaveLength(1)
    // Not by a shell, which would keep SIGTERM for itself.
    expect(image.filter((line) => /^ENTRYPOINT \["node"/.test(line))).toHaveLength(1)
  })
})

test.skipIf(!has('kubectl', 'version', '--client'))('kustomize builds the manifests', () => {
  const all = execFileSync('kubectl', ['kustomize', join(folder, 'kubernetes')], { encoding: 'utf8' })
  const kinds = parseAllDocuments(all).map((document) => document.toJS().kind)
  expect(kinds.sort()).toEqual([
    'Namespace',
    'NetworkPolicy',
    'PodDisruptionBudget',
    'PodMonitor',
    'ScaledObject',
    'Service',
    'Service',
    'StatefulSet',
    'StatefulSet',
  ])
})
