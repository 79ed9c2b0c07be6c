import { join } from 'node:path'
import { startLocalServer } from '../../cli/bench/serving/local-server.ts'
import { MODES } from '../../cli/bench/serving/modes.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { serverSide } from './server-side.ts'
import type { PeerDType, Side } from './side.ts'

const MOST_REQUESTS = 64

/** Edge and gpu node as `apar serve` starts them; branches, drafts and the prefix cache are off. */
export async function openOurs(model: string, dtype: PeerDType, threads: number): Promise<Side> {
  const server = await startLocalServer({
    ...{ model, requests: MOST_REQUESTS, script: join(packageRoot, 'dist/apar.js') },
    nodeArguments: ['--dtype', dtype, '--threads', String(threads), '--no-prefix-cache'],
  })
  const { url, key, model: name } = server
  return serverSide({ name: 'ours', url, key, model: name, mode: MODES.serial, close: () => server.close() })
}
