import type { ChildProcess } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import type { Reporter, TestModule } from 'vitest/node'

/** Node publishes each ChildProcess there. */
const CHANNEL = 'child_process'
/** The script of Vitest's pool. */
const WORKER = /workers[/\\]forks\.js$/

/**
 * Names the files whose worker ended before they did, and how it ended: Vitest says only that some worker did, and a crash
 * of the engine in one is not to be found without its file, nor told from a lack of memory without its signal.
 */
export default class UnfinishedReporter implements Reporter {
  onInit(): void {
    subscribe(CHANNEL, reportLostWorker)
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    unsubscribe(CHANNEL, reportLostWorker)
    for (const module of modules) {
      const open = [...module.children.allTests()].filter((test) => test.result().state === 'pending')
      if (module.state() !== 'pending' && module.state() !== 'queued' && open.length === 0) continue
      console.error(`Not finished: ${module.relativeModuleId}`)
      for (const test of open) console.error(`  ${test.fullName}`)
    }
  }
}

function reportLostWorker(message: unknown): void {
  const { process: child } = message as { process: ChildProcess }
  child.once('exit', (code, signal) => {
    // Vitest ends those that have done their work with a signal.
    if (child.killed || !child.spawnargs?.some((arg) => WORKER.test(arg))) return
    console.error(`A worker has ended: ${signal ?? `exit code ${code}`}`)
  })
}
