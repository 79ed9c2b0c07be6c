import type { Recording } from '../answer/recording.ts'
import { formatMs } from './format.ts'

interface ReasoningProps {
  readonly recording: Recording
  readonly growing: boolean
}

/** What the model thinks before it answers: open while there is nothing else to read, then folded up. */
export function Reasoning({ recording, growing }: ReasoningProps) {
  const text = recording.reasoning().trim()
  if (text === '') return null
  const thinking = growing && recording.isThinking
  const ms = recording.thoughtMs
  const thought = ms === undefined ? 'Reasoning' : `Thought for ${formatMs(ms)}`
  return (
    <details class="reasoning" open={thinking}>
      <summary>{thinking ? 'Thinking …' : thought}</summary>
      <p>{text}</p>
    </details>
  )
}
