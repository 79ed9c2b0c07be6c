import { idleSockets } from './hostile/idle-sockets.ts'
import { longPrompt } from './hostile/long-prompt.ts'
import { longPromptsEncoded } from './hostile/long-prompts-encoded.ts'
import { otherKeys } from './hostile/other-keys.ts'
import { silentNode } from './hostile/silent-node.ts'
import { stateFolder } from './hostile/state-folder.ts'
import { unknownKeys } from './hostile/unknown-keys.ts'
import { type Attack, type Bench, type BenchCase, commit, machine, SampleFile } from './report.ts'

/** In the order in which they run; each starts a service of its own. */
const ATTACKS: Record<string, Attack> = {
  'unknown-keys': unknownKeys,
  'idle-sockets': idleSockets,
  'long-prompt': longPrompt,
  'long-prompts-encoded': longPromptsEncoded,
  'other-keys': otherKeys,
  'silent-node': silentNode,
  'state-folder': stateFolder,
}

/** Measures what the users of a service notice while strangers or other users overload it. */
export const hostile: Bench = async ({ quick, parts }) => {
  const unknown = parts.find((name) => !Object.hasOwn(ATTACKS, name))
  if (unknown !== undefined)
    throw new Error(`no attack named ${unknown}; there are ${Object.keys(ATTACKS).join(', ')}`)
  const file = new SampleFile('hostile')
  const cases: BenchCase[] = []
  for (const [name, attack] of Object.entries(ATTACKS))
    if (parts.length === 0 || parts.includes(name)) cases.push(...(await attack(quick, file)))
  return { bench: 'hostile', commit: commit(), machine: machine(), samples: file.path, cases }
}
