import type { ModuleTensors } from './adapter-tensors.ts'

interface TiedModules {
  readonly embedding: string
  readonly head: string
  readonly refuse: (what: string) => never
}

/**
 * Whether the head is still tied to the embedding table once an adapter is merged, and the tensors of both. What is
 * computed is what was trained: peft changes a tied head only through trained tokens of the table; LoRA and saved
 * modules belong to the one of the two that they are stored for. (peft's own merge puts them into both.)
 */
export function untieHead(
  tied: boolean,
  modules: ReadonlyMap<string, ModuleTensors>,
  { embedding, head, refuse }: TiedModules,
): { tied: boolean; modules: ReadonlyMap<string, ModuleTensors> } {
  const ofTable = modules.get(embedding) ?? {}
  const ofHead = modules.get(head)
  const onlyRows = Object.keys(ofTable).every((part) => part === 'rows')
  if (!tied || (onlyRows && !ofHead)) return { tied, modules }
  if (ofTable.rows && !ofHead?.rows)
    return refuse(`${ofTable.rows.name}: trained tokens of a tied embedding, and ${head} is changed too`)
  // A resized table may be stored for one of the two only.
  const base = ofTable.base ?? ofHead?.base
  const withBase = (tensors: ModuleTensors = {}) => (base && !tensors.whole ? { ...tensors, base } : tensors)
  const untied = new Map(modules)
  untied.set(embedding, withBase(ofTable))
  untied.set(head, withBase(ofHead))
  return { tied: false, modules: untied }
}
