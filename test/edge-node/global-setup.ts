import type { TestProject } from 'vitest/node'
import { buildPage } from '../../edge/build.mjs'
import { startFakeNode } from './fake-node.ts'

declare module 'vitest' {
  interface ProvidedContext {
    fakeNodeUrl: string
    races: number
  }
}

export default async function setup(project: TestProject): Promise<() => void> {
  await buildPage()
  const node = await startFakeNode('node-secret-of-the-tests')
  project.provide('fakeNodeUrl', node.url)
  project.provide('races', Number(process.env.APAR_RACES ?? 2000))
  return node.close
}
