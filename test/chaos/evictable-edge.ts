import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { EdgeWorker } from '../../cli/local/edge-workers.ts'
import { startWorkerd } from '../../cli/local/workerd.ts'
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
    const modulesFolder = mkdtempSync(join(tmpdir(), 'apar-evictable-'))
    copyFileSync(workerPath, join(modulesFolder, 'worker.js'))
    copyFileSync(join(packageRoot, 'test/chaos/evictable-worker.mjs'), join(modulesFolder, 'main.mjs'))
    const workerd = startWorkerd({
      worker: { ...workerOptions, modules: ['main.mjs', 'worker.js'], ratelimits: {} },
      modulesFolder,
      texts: { API_KEYS: JSON.stringify(apiKeys), NODE_SECRET: nodeSecret, ADMIN_KEY },
      host: '127.0.0.1',
      port,
      stateDir,
      onLine: (line) => onLog(`${line}\n`),
    })
    const bound = await workerd.listening
    rmSync(modulesFolder, { recursive: true })
    return {
      url: `http://127.0.0.1:${bound}`,
      processes: [workerd.pid],
      close: () => workerd.close(),
    }
  }
}

async function edgeBuild(): Promise<{ workerOptions: EdgeWorker; workerPath: string }> {
  return await import(pathToFileURL(join(packageRoot, 'edge/build.mjs')).href)
}
