import type { Speculation } from '../../../shared/protocol/speculation.ts'

/** How a server of apar is to decode. */
export interface ModeOptions {
  /** With branches. */
  readonly parallel: boolean
  readonly speculation: Speculation
}

/** Ways to decode that are compared; nothing is drafted where it is not said. */
export const MODES = {
  serial: { parallel: false, speculation: 'off' },
  parallel: { parallel: true, speculation: 'off' },
  medusa: { parallel: false, speculation: 'medusa' },
  'parallel-medusa': { parallel: true, speculation: 'medusa' },
  ngram: { parallel: false, speculation: 'ngram' },
  'parallel-ngram': { parallel: true, speculation: 'ngram' },
} as const satisfies Record<string, ModeOptions>
export type ModeName = keyof typeof MODES

/** The mode of bodies without options of apar: the server decides. */
export const PLAIN = 'plain'
export type Mode = ModeName | typeof PLAIN

export function isModeName(name: string): name is ModeName {
  return Object.hasOwn(MODES, name)
}

export function optionsOf(mode: Mode): ModeOptions | undefined {
  return mode === PLAIN ? undefined : MODES[mode]
}
