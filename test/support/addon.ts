import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Engine } from '../../gpu-node/engine/engine.ts'
import { NO_TEXT } from '../../gpu-node/engine/token-table.ts'

export const ADDON = join(import.meta.dirname, '../../native/build/release/apar.node')

/** The native engine without TypeScript's validation. */
export const addon: Record<'load' | 'start', (...args: unknown[]) => unknown> = createRequire(
  import.meta.url,
)(ADDON)

export async function openUnchecked(
  config?: unknown,
  onEvents?: unknown,
  text: unknown = NO_TEXT,
): Promise<Engine> {
  return addon.start(await addon.load(config), text, onEvents) as Engine
}
