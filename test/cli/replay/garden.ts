/** Questions and published answers of a made-up model: a list, a list in a list, and one that does not fork. */
export const LIST = `Three things help:

1. **Water:** give each bed a good soak at dusk, once a day is enough.
2. **Shade:** hang a cloth over the seedlings at noon, and take it away at night.
3. **Mulch:** spread straw between the rows, and let leaves rot for a year.

Then rest.`

export const NESTED = `Three things help:

1. **Water:** give each bed a good soak at dusk, once a day is enough.
2. **Shade:** hang a cloth over the seedlings at noon, and take it away at night.
3. **Mulch:**
   - Straw: spread it between the rows.
   - Leaves: let them rot for a year.
   - Bark: for paths more than for beds.`

export const SENTENCE = 'Tar puts many files into one.'

const QUESTIONS = ['How do I water a garden?', 'And in a dry summer?', 'What is tar?', 'Is this answered?']
const ANSWERS = [LIST, NESTED, SENTENCE]

/** FastChat's question.jsonl and model_answer/MODEL.jsonl. */
export const questionLines = linesOf(
  QUESTIONS.map((question, index) => ({ question_id: index + 1, category: 'garden', turns: [question] })),
)
export const answerLines = linesOf(
  ANSWERS.map((answer, index) => ({
    ...{ question_id: index + 1, model_id: 'poet-7b' },
    choices: [{ index: 0, turns: [answer] }],
  })),
)

function linesOf(values: readonly object[]): string {
  return values.map((value) => `${JSON.stringify(value)}\n`).join('')
}
