import { z } from 'zod'

/** What becomes of a field: `ignored` does not change the answer, `refused` has only neutral values; others are done. */
export type Treatment = 'ignored' | 'refused'

const treatments = z.registry<{ treatment: Treatment }>()

/** As docs/api.md has it; undefined for a field that does what its API says. */
export function treatmentOf(field: z.ZodType): Treatment | undefined {
  return treatments.get(field)?.treatment
}

/** A field that would change the answer if it were ignored: only its neutral values are accepted. */
export function unsupported(what: string, ...neutral: (number | boolean | string)[]) {
  const values: [null, ...(number | boolean | string)[]] = [null, ...neutral]
  return refused(z.literal(values, `${what} not supported`).optional())
}

/** As {@link unsupported}, for a list: only the empty one is accepted. */
export function unsupportedList(what: string) {
  return refused(z.array(z.unknown()).max(0, `${what} not supported`).optional())
}

/** Marks a field whose schema accepts only neutral values. */
export function refused<T extends z.ZodType>(field: T): T {
  treatments.add(field, { treatment: 'refused' })
  return field
}

/** A field that has no effect on the answer. */
export const ignored = ignoredAs(z.unknown())

/** The same, of which only values of this type are accepted. */
export function ignoredAs<T extends z.ZodType>(type: T) {
  const field = type.optional()
  treatments.add(field, { treatment: 'ignored' })
  return field
}
