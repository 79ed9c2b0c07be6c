import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { NodeMetrics } from '../../gpu-node/observe/node-metrics.ts'
import { scriptedRunner } from '../support/scripted-node.ts'
import { type TinyFolder, tinyCheckpoint } from '../support/tiny-checkpoint.ts'

let folder: TinyFolder
let series: Set<string>
let metrics: NodeMetrics
beforeAll(async () => {
  folder = tinyCheckpoint()
  metrics = new NodeMetrics((await scriptedRunner(folder)).runner)
  series = seriesOf(await metrics.registry.metrics())
})
afterAll(() => folder.remove())

/**
 * Names of the series that Prometheus stores: `x_bucket`, `x_sum` and `x_count` for a histogram, otherwise the
 * metric's name.
 */
function seriesOf(text: string): Set<string> {
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)]
  const names = types.flatMap(([, name = '', type]) =>
    type === 'histogram' ? ['_bucket', '_sum', '_count'].map((suffix) => name + suffix) : [name],
  )
  return new Set(names)
}

interface Dashboard {
  templating: { list: { query: string }[] }
  panels: { title: string; targets?: { expr: string }[] }[]
}

const path = new URL('../../deploy/grafana/apar-gpu-nodes.json', import.meta.url)
const dashboard: Dashboard = JSON.parse(readFileSync(path, 'utf8'))

const namesIn = (text: string): string[] => text.match(/\b(?:apar|process|nodejs)_\w+/g) ?? []

test('every metric in the dashboard is exported by a gpu node', () => {
  const panels = dashboard.panels.flatMap(({ title, targets = [] }) =>
    targets.flatMap(({ expr }) => namesIn(expr).map((name) => [title, name] as const)),
  )
  const variables = dashboard.templating.list.flatMap(({ query }) => namesIn(query))
  expect(panels.length).toBeGreaterThan(30)
  expect(panels.filter(([, name]) => !series.has(name))).toEqual([])
  expect(variables.filter((name) => !series.has(name))).toEqual([])
})

test('every panel queries a metric', () => {
  const empty = dashboard.panels.filter(
    ({ targets }) => targets && !targets.every(({ expr }) => namesIn(expr).length > 0),
  )
  expect(empty).toEqual([])
})

test('every apar metric is in the dashboard', () => {
  const shown = JSON.stringify(dashboard)
  const ours = metrics.registry.getMetricsAsArray().map(({ name }) => name)
  const hidden = ours.filter((name) => name.startsWith('apar_') && !shown.includes(name))
  // The dashboard shows prefilled tokens and cache hits instead of this counter.
  expect(hidden).toEqual(['apar_prompt_tokens_total'])
})
