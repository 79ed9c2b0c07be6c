import { describe, expect, test } from 'vitest'
import { stateFolders } from '../../cli/local/edge-workers.ts'
import { variableOf, workerdConfig } from '../../cli/local/workerd-config.ts'
import { workerOptions } from '../../edge/build.mjs'

const texts = ['API_KEYS', 'NODE_SECRET']
const config = workerdConfig(workerOptions, texts)
const [answering = '', stored = ''] = config.split('(name = "apar-state", worker')

describe('the configuration of workerd', () => {
  test('has each class of objects in one of the two workers, and a binding for it in both', () => {
    for (const [binding, { className }] of Object.entries(workerOptions.durableObjects)) {
      const owns = (part: string) =>
        part.includes(`(className = "${className}", uniqueKey = "apar-${className}"`)
      expect([owns(answering), owns(stored)].filter(Boolean)).toHaveLength(1)
      for (const [part, other] of [
        [answering, 'apar-state'],
        [stored, 'apar'],
      ] as const) {
        const place = owns(part) ? '' : `, serviceName = "${other}"`
        expect(part).toContain(
          `(name = "${binding}", durableObjectNamespace = (className = "${className}"${place}))`,
        )
      }
    }
  })

  test('has on disk what is stored, and nothing else', () => {
    expect(answering).toContain('durableObjectStorage = (inMemory = void)')
    expect(stored).toContain('durableObjectStorage = (localDisk = "disk")')
    for (const folder of stateFolders(workerOptions).stored)
      expect(stored).toContain(`uniqueKey = "${folder}"`)
  })

  test('has no secret: texts come from variables', () => {
    for (const name of texts) {
      expect(answering).toContain(`(name = "${name}", fromEnvironment = "${variableOf(name)}")`)
      expect(stored).toContain(`(name = "${name}", fromEnvironment = "${variableOf(name)}")`)
    }
  })

  test('has the rate limits', () => {
    expect(answering).toContain('(name = "limit", json = "10000"), (name = "period", json = "10")')
  })

  test('refuses names that would not be text in it', () => {
    expect(() => workerdConfig({ ...workerOptions, name: 'ü' }, texts)).toThrow('not plain text')
    const quoted = workerdConfig({ ...workerOptions, name: 'a"b' }, texts)
    expect(quoted).toContain('"a\\"b"')
  })
})
