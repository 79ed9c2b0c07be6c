import type { Reporter, TestModule } from 'vitest/node'

/**
 * Names the files whose worker ended before they did: Vitest says only that some worker did, and a crash of the
 * engine in one is not to be found without its file.
 */
export default class UnfinishedReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    for (const module of modules) {
      const open = [...module.children.allTests()].filter((test) => test.result().state === 'pending')
      if (module.state() !== 'pending' && module.state() !== 'queued' && open.length === 0) continue
      console.error(`Not finished: ${module.relativeModuleId}`)
      for (const test of open) console.error(`  ${test.fullName}`)
    }
  }
}
