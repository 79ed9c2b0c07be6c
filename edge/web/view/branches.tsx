import type { Signal } from '@preact/signals'
import type { Recording } from '../answer/recording.ts'
import { hueOf } from '../markdown/highlights.ts'
import { coloured } from '../state/state.ts'
import { formatMs, formatRate } from './format.ts'
import { Icon } from './icon.tsx'

interface BranchesProps {
  readonly recording: Recording
  readonly elapsedMs: number
  readonly pointed: Signal<number | undefined>
  /** Undefined when the answer does not grow any more. */
  readonly onStop: ((branch: number) => void) | undefined
}

/** The branch tree over time: a row per branch below its parent, with a bar from its fork to its end. */
export function Branches({ recording, elapsedMs, pointed, onStop }: BranchesProps) {
  const wholeMs = Math.max(elapsedMs, 1)
  return (
    <div class="branches">
      <ol>
        {inTreeOrder(recording.tree).map((id) => (
          <Row
            key={id}
            id={id}
            recording={recording}
            wholeMs={wholeMs}
            pointed={pointed}
            onStop={recording.times.get(id)?.endMs === undefined && id > 0 ? onStop : undefined}
          />
        ))}
      </ol>
      <p class="axis" aria-hidden="true">
        <span>0</span>
        <span>{formatMs(elapsedMs)}</span>
      </p>
      <label class="check">
        <input
          type="checkbox"
          checked={coloured.value}
          onChange={({ currentTarget }) => {
            coloured.value = currentTarget.checked
          }}
        />
        Colours in the text
      </label>
    </div>
  )
}

interface RowProps extends Pick<BranchesProps, 'recording' | 'pointed' | 'onStop'> {
  readonly id: number
  readonly wholeMs: number
}

function Row({ id, recording, wholeMs, pointed, onStop }: RowProps) {
  const branch = recording.tree.branch(id)
  const times = recording.times.get(id)
  if (!branch || !times) return null
  const { startMs, endMs = wholeMs } = times
  const tokens = recording.tokensOf(id)
  const name = id === 0 ? 'Root' : `Branch ${id}`
  const origin =
    branch.parent === null
      ? ''
      : `, forked from ${branch.parent === 0 ? 'the root' : `branch ${branch.parent}`}`
  const state = times.endMs === undefined ? ', growing' : branch.reason === 'abort' ? ', stopped' : ''
  const numbers = `${tokens} tokens, ${formatRate(tokens, endMs - startMs)}`
  const told = `${name}${origin}: ${formatMs(startMs)} to ${formatMs(endMs)}, ${numbers}${state}`
  const point = (on: boolean) => {
    pointed.value = on ? id : undefined
  }
  return (
    <li data-hue={hueOf(id)} data-pointed={pointed.value === id} data-growing={times.endMs === undefined}>
      <button
        type="button"
        class="row"
        title={told}
        onPointerEnter={() => point(true)}
        onPointerLeave={() => point(false)}
        onFocus={() => point(true)}
        onBlur={() => point(false)}
      >
        <span class="hidden">{told}</span>
        <span
          class="name"
          aria-hidden="true"
          style={{ paddingInlineStart: `${(branch.depth - 1) * 0.7}rem` }}
        >
          {id === 0 ? 'Root' : `${branch.depth > 1 ? '↳ ' : ''}${id}`}
        </span>
        <span class="track" aria-hidden="true">
          <span
            class="bar"
            style={{
              left: `${(100 * startMs) / wholeMs}%`,
              width: `${Math.max(0.5, (100 * (endMs - startMs)) / wholeMs)}%`,
            }}
          />
        </span>
        <span class="count" aria-hidden="true">
          {tokens}
        </span>
      </button>
      {onStop && (
        <button
          type="button"
          class="quiet icon small"
          aria-label={`Stop branch ${id}`}
          title={`Stop branch ${id} and those below it`}
          onClick={() => onStop(id)}
        >
          <Icon name="stop" />
        </button>
      )}
    </li>
  )
}

/** Each branch with its descendants before the next one. */
function inTreeOrder(tree: Recording['tree'], id = 0): number[] {
  return [id, ...(tree.branch(id)?.children ?? []).flatMap((child) => inTreeOrder(tree, child))]
}
