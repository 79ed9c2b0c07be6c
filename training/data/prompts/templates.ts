import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { z } from 'zod'
import { AparError } from '../../../shared/errors.ts'

/** Whether a prompt asks for what is usually answered with a list; `other` ones teach a model when not to fork. */
export const Shape = z.enum(['list', 'other'])
export type Shape = z.infer<typeof Shape>

const text = z.string().min(1)

/** Templates of one kind of prompt: `{slot}` stands for one of the slot's texts. */
const Group = z.strictObject({
  name: text,
  shape: Shape,
  /** Share of its prompts among those of all groups of its shape. */
  weight: z.number().positive(),
  templates: z.array(text).min(1),
})
export type Group = z.infer<typeof Group>

const TemplateFile = z.strictObject({
  slots: z.record(z.string(), z.array(text).min(1)),
  groups: z.array(Group).min(1),
})

export interface Templates {
  /** Of all files: a group may use the slots of other files. */
  readonly slots: ReadonlyMap<string, readonly string[]>
  readonly groups: readonly Group[]
}

export const SLOT = /\{(\w+)\}/g

/** Reads all `*.json` of a folder. @throws AparError `invalid_request` that names the file and the field. */
export function readTemplates(folder: string): Templates {
  const slots = new Map<string, readonly string[]>()
  const groups: Group[] = []
  const names = new Set<string>()
  for (const name of readdirSync(folder).sort()) {
    if (!name.endsWith('.json')) continue
    const file = join(folder, name)
    const read = parseFile(file)
    for (const [slot, texts] of Object.entries(read.slots)) {
      if (slots.has(slot)) throw bad(file, `slots.${slot}: another file has a slot of this name`)
      slots.set(slot, texts)
    }
    for (const group of read.groups) {
      if (names.has(group.name)) throw bad(file, `groups: ${group.name} exists already`)
      names.add(group.name)
      groups.push(group)
    }
  }
  if (groups.length === 0) throw bad(folder, 'has no *.json with groups of templates')
  for (const group of groups) {
    for (const template of group.templates) {
      const unknown = [...template.matchAll(SLOT)].find(([, slot = '']) => !slots.has(slot))?.[1]
      if (unknown !== undefined) throw bad(folder, `group ${group.name}: there is no slot ${unknown}`)
    }
  }
  return { slots, groups }
}

function parseFile(file: string): z.infer<typeof TemplateFile> {
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch (error) {
    throw bad(file, error instanceof Error ? error.message : String(error))
  }
  const result = TemplateFile.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  throw bad(file, `${issue?.path.map(String).join('.')}: ${issue?.message}`)
}

function bad(file: string, reason: string): AparError {
  return new AparError('invalid_request', `${file}: ${reason}`)
}
