export type Schema = Record<string, unknown>

/** Objects as applications ask for them; long answers, so that a load of them goes on for a while. */
export const SCHEMAS: Readonly<Record<string, Schema>> = {
  person: {
    type: 'object',
    properties: {
      name: { type: 'string', maxLength: 40 },
      age: { type: 'integer', minimum: 0, maximum: 130 },
      email: { type: 'string', pattern: '^[a-z]{1,12}@[a-z]{1,12}\\.(com|org)$' },
      tags: { type: 'array', items: { enum: ['new', 'regular', 'vip'] }, minItems: 1, maxItems: 3 },
    },
    required: ['name', 'age', 'email', 'tags'],
    additionalProperties: false,
  },
  recipe: {
    type: 'object',
    properties: {
      title: { type: 'string', maxLength: 60 },
      servings: { type: 'integer', minimum: 1, maximum: 12 },
      ingredients: {
        type: 'array',
        items: {
          type: 'object',
          properties: {
            name: { type: 'string', maxLength: 30 },
            grams: { type: 'integer', minimum: 1, maximum: 2000 },
          },
          required: ['name', 'grams'],
          additionalProperties: false,
        },
        minItems: 3,
        maxItems: 6,
      },
      steps: { type: 'array', items: { type: 'string', maxLength: 80 }, minItems: 3, maxItems: 5 },
    },
    required: ['title', 'servings', 'ingredients', 'steps'],
    additionalProperties: false,
  },
  event: {
    type: 'object',
    properties: {
      kind: { const: 'event' },
      start: { type: 'string', format: 'date-time' },
      place: { anyOf: [{ type: 'null' }, { type: 'string', maxLength: 40 }] },
      price: { type: 'number', minimum: 0, maximum: 500 },
      open: { type: 'boolean' },
    },
    required: ['kind', 'start', 'place', 'price', 'open'],
    additionalProperties: false,
  },
}

/** An answer in it does not end before the limit of tokens that a load has. */
export const ENDLESS: Schema = {
  type: 'array',
  items: {
    type: 'object',
    properties: {
      word: { type: 'string', maxLength: 24 },
      count: { type: 'integer', minimum: 0, maximum: 999 },
    },
    required: ['word', 'count'],
    additionalProperties: false,
  },
  minItems: 500,
}
