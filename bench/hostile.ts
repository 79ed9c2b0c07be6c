import { idleSockets } from './hostile/idle-sockets.ts'
import { longPrompt } from './hostile/long-prompt.ts'
import { longPromptsEncoded } from './hostile/long-prompts-encoded.ts'
import { otherKeys } from './hostile/other-keys.ts'
import { silentNode } from './hostile/silent-node.ts'
import { stateFolder } from './hostile/state-folder.ts'
import { unknownKeys } from './hostile/unknown-keys.ts'
import { type Attack, type Bench, type BenchCase, commit, machine, SampleFile } from './report.ts'

/** In the order in which they run; each starts a service of its own. */
const ATTACKS: readonly Attack[] = [
  unknownKeys,
  idleSockets,
  longPrompt,
  longPromptsEncoded,
  otherKeys,
  silentNode,
  stateFolder,
]

/** Measures what the users of a service notice while strangers or other users overload it. */
export const hostile: Bench = async ({ quick }) => {
  const file = new SampleFile('hostile')
  const cases: BenchCase[] = []
  for (const attack of ATTACKS) cases.push(...(await attack(quick, file)))
  return { bench: 'hostile', commit: commit(), machine: machine(), samples: file.path, cases }
}
