import { unsupported } from './refusals.ts'

/** Dtypes of tensors that hold weights or scales as they are. */
export const PLAIN = ['F32', 'BF16', 'F16'] as const
export type PlainDtype = (typeof PLAIN)[number]

/** @throws StartupError for a dtype that is not served. `where`: file and tensor. */
export function servedDtype(dtype: string, where: string): PlainDtype {
  const plain = PLAIN.find((served) => served === dtype)
  if (plain) return plain
  throw unsupported(`${where}: dtype ${dtype} is not served (${PLAIN.join(', ')} are)`)
}
