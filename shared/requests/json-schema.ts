import { z } from 'zod'

type JsonSchema = z.core.JSONSchema.BaseSchema
type Member = NonNullable<JsonSchema['properties']>[string]

/** The JSON Schema of a request's body as clients may send it: a member that may be absent may also be null. */
export function jsonSchemaOf(body: z.ZodType): JsonSchema {
  return z.toJSONSchema(body, { io: 'input', override: ({ jsonSchema }) => allowNulls(jsonSchema) })
}

function allowNulls(schema: JsonSchema): void {
  for (const [name, member] of Object.entries(schema.properties ?? {})) {
    if (typeof member === 'boolean' || schema.required?.includes(name) || takesNull(member)) continue
    schema.properties = { ...schema.properties, [name]: { anyOf: [member, { type: 'null' }] } }
  }
}

function takesNull(member: Member): boolean {
  if (typeof member === 'boolean') return member
  const { type, anyOf, enum: values } = member
  const isAnything = Object.keys(member).length === 0
  return isAnything || type === 'null' || values?.includes(null) || anyOf?.some(takesNull) || false
}
