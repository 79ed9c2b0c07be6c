/** Characters between two looks at a text. */
const STRIDE = 64
const TAIL = 40
const MAX_TIMES = 5

/**
 * Finds the place where a text has begun to go round in circles, as small models do: its last 40 characters stand in it
 * a fifth time. The text is looked at every 64 characters, so that the place does not depend on how it arrives.
 */
export class Repetition {
  #looked = 0

  /** `text`: all of it so far. Returns where to cut it; undefined while it goes on well. */
  look(text: string): number | undefined {
    for (let end = this.#looked + STRIDE; end <= text.length; end += STRIDE) {
      this.#looked = end
      const tail = text.slice(end - TAIL, end)
      let times = 0
      for (let at = text.indexOf(tail); at !== -1 && at + TAIL <= end; at = text.indexOf(tail, at + TAIL))
        times++
      if (times >= MAX_TIMES) return end
    }
    return undefined
  }
}
