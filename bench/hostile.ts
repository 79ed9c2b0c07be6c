import type { Attack } from './hostile/attack.ts'
import { idleSockets } from './hostile/idle-sockets.ts'
import { unknownKeys } from './hostile/unknown-keys.ts'
import { type Bench, type BenchCase, commit, machine, SampleFile } from './report.ts'

/** In the order in which they run; each starts a service of its own. */
const ATTACKS: readonly Attack[] = [unknownKeys, idleSockets]

/** Measures what the users of a service notice while strangers or other users overload it. */
export const hostile: Bench = async ({ quick }) => {
  const file = new SampleFile('hostile')
  const cases: BenchCase[] = []
  for (const attack of ATTACKS) cases.push(...(await attack(quick, file)))
  return { bench: 'hostile', commit: commit(), machine: machine(), samples: file.path, cases }
}
