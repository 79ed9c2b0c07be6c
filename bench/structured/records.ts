import type { Schema } from './schemas.ts'

/** Something to say in JSON, with the schema of a strict object whose members do not depend on each other. */
export interface Record {
  readonly name: string
  readonly ask: string
  readonly schema: Schema
}

const word = { type: 'string', maxLength: 30 }
const sentence = { type: 'string', maxLength: 100 }

function strict(properties: { [key: string]: unknown }): Schema {
  return { type: 'object', properties, required: Object.keys(properties), additionalProperties: false }
}

function count(maximum: number) {
  return { type: 'integer', minimum: 0, maximum }
}

function extraction(text: string, keys: string): string {
  return `${text}\n\nExtract from this text, as a JSON object with the keys ${keys}.`
}

/** What the text says, and what the model makes up: in the former a value cannot depend on the other values. */
export const RECORDS: readonly Record[] = [
  {
    name: 'invoice',
    ask: extraction(
      'Invoice 4821 of Miller Tools, Hamburg, of 3 May 2024. 12 hammers at 8 euros each, in all 96 euros. To be paid by Anna Schmidt within 30 days.',
      'number, seller, city, item, quantity, price, total, customer and days',
    ),
    schema: strict({
      ...{ number: count(99_999), seller: word, city: word, item: word, quantity: count(999) },
      ...{ price: count(9999), total: count(99_999), customer: word, days: count(365) },
    }),
  },
  {
    name: 'letter',
    ask: extraction(
      'Hello, my name is Peter Brown. The washing machine that I bought from you in March does not turn any more. I would like to have my money back. You reach me at peter@brown.org. I am quite angry.',
      'customer, email, product, problem, wish, month, mood and urgent',
    ),
    schema: strict({
      customer: word,
      email: { type: 'string', pattern: '^[a-z]{1,12}@[a-z]{1,12}\\.(com|org)$' },
      product: word,
      problem: sentence,
      wish: sentence,
      month: word,
      mood: { enum: ['friendly', 'neutral', 'angry'] },
      urgent: { type: 'boolean' },
    }),
  },
  {
    name: 'flight',
    ask: extraction(
      'Flight LH 402 leaves Frankfurt at 13:20 from gate B42 and arrives in New York at 15:55. It is a Boeing 747 with 364 seats, of which 12 are free.',
      'flight, aircraft, seats, free, departure and arrival; the last two with city and time',
    ),
    schema: strict({
      flight: word,
      aircraft: word,
      seats: count(999),
      free: count(999),
      departure: strict({ city: word, time: { type: 'string', pattern: '^[0-2][0-9]:[0-5][0-9]$' } }),
      arrival: strict({ city: word, time: { type: 'string', pattern: '^[0-2][0-9]:[0-5][0-9]$' } }),
    }),
  },
  {
    name: 'house',
    ask: extraction(
      'For sale: a white wooden house in Bergen, built in 1932, with 5 rooms, 2 bathrooms and a large garden. It has 140 square metres and costs 450,000 dollars. The roof was renewed in 2015.',
      'city, material, colour, built, rooms, bathrooms, area, price, garden and roof',
    ),
    schema: strict({
      ...{ city: word, material: word, colour: word, built: count(2100), rooms: count(50) },
      ...{ bathrooms: count(20), area: count(2000), price: count(9_999_999) },
      ...{ garden: { type: 'boolean' }, roof: sentence },
    }),
  },
  {
    name: 'character',
    ask: 'Make up a character for a story, as a JSON object with the keys name, job, home, hobby, fear, wish and secret. Write a short sentence for each.',
    schema: strict({
      ...{ name: word, job: sentence, home: sentence, hobby: sentence },
      ...{ fear: sentence, wish: sentence, secret: sentence },
    }),
  },
  {
    name: 'country',
    ask: 'Describe France as a JSON object with the keys capital, language, currency, continent, population, food, landscape, history and climate.',
    schema: strict({
      ...{ capital: word, language: word, currency: word, continent: word },
      ...{ population: count(2_000_000_000), food: sentence, landscape: sentence },
      ...{ history: sentence, climate: sentence },
    }),
  },
  {
    name: 'review',
    ask: 'Review the smartphone Nova 5 as a JSON object with the keys screen, battery, camera, price, sound, verdict and stars.',
    schema: strict({
      ...{ screen: sentence, battery: sentence, camera: sentence, price: sentence },
      ...{ sound: sentence, verdict: sentence, stars: count(5) },
    }),
  },
  {
    name: 'day',
    ask: 'Plan a day in Rome as a JSON object with the keys morning, noon, afternoon and evening, each with place, what and minutes.',
    schema: strict(
      Object.fromEntries(
        ['morning', 'noon', 'afternoon', 'evening'].map((time) => [
          time,
          strict({ place: word, what: sentence, minutes: count(300) }),
        ]),
      ),
    ),
  },
]
