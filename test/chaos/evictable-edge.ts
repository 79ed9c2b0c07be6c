import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { Miniflare } from 'miniflare'
import { type EdgeWorker, localWorkers } from '../../cli/local/edge-workers.ts'
import { workerdProcesses } from '../../cli/local/workerd-processes.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import type { OpenEdge } from '../e2e/fleet.ts'

export const ADMIN_KEY = 'admin-key-of-the-chaos'

/**
 * The local edge with its worker wrapped by evictable-worker.mjs, and without the IP rate limit, which would
 * refuse most requests from one address. `onLog` receives the worker's output.
 */
export function evictableEdge(onLog: (line: string) => void): OpenEdge {
  return async ({ port, apiKeys, nodeSecret, stateDir }) => {
    const { workerOptions, workerPath } = await edgeBuild()
    const { modulesRoot: _, ...options } = workerOptions as EdgeWorker & { modulesRoot?: string }
    const worker = {
      ...options,
      modules: [
        { type: 'ESModule', path: 'main.mjs', contents: source('test/chaos/evictable-worker.mjs') },
        { type: 'ESModule', path: 'worker.js', contents: readFileSync(workerPath, 'utf8') },
      ],
      bindings: { API_KEYS: JSON.stringify(apiKeys), NODE_SECRET: nodeSecret, ADMIN_KEY },
      ratelimits: {},
    }
    const miniflare = new Miniflare({
      workers: localWorkers(worker),
      ...(stateDir !== undefined && { durableObjectsPersist: stateDir }),
      host: '127.0.0.1',
      port,
      cf: false,
      telemetry: { enabled: false },
      handleRuntimeStdio: (...streams: Readable[]) => {
        for (const stream of streams) stream.setEncoding('utf8').on('data', onLog)
      },
    })
    const { port: bound } = await miniflare.ready
    return {
      url: `http://127.0.0.1:${bound}`,
      processes: workerdProcesses(),
      close: () => miniflare.dispose(),
    }
  }
}

function source(path: string): string {
  return readFileSync(join(packageRoot, path), 'utf8')
}

async function edgeBuild(): Promise<{ workerOptions: EdgeWorker; workerPath: string }> {
  return await import(pathToFileURL(join(packageRoot, 'edge/build.mjs')).href)
}
