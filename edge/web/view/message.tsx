import { useSignal } from '@preact/signals'
import { useMemo } from 'preact/hooks'
import type { Vote } from '../../../client/index.ts'
import { Recording } from '../answer/recording.ts'
import { copyText } from '../copy.ts'
import { download, fileName } from '../download.ts'
import { type Answer, type Message, type Prompt, siblingsOf } from '../history/conversation.ts'
import { titleBefore, toTrace } from '../history/transfer.ts'
import { running } from '../state/answers.ts'
import { ask, choose, regenerate } from '../state/chat.ts'
import { describeProblem } from '../state/problem.ts'
import { keyDialog, messages } from '../state/state.ts'
import { AnswerText } from './answer-text.tsx'
import { Branches } from './branches.tsx'
import { figuresLine } from './format.ts'
import { Action } from './icon.tsx'
import { Reason, Votes } from './opinion.tsx'

export function PromptView({ message, busy }: { readonly message: Prompt; readonly busy: boolean }) {
  const editing = useSignal(false)
  if (editing.value)
    return (
      <PromptEditor
        message={message}
        onDone={() => {
          editing.value = false
        }}
      />
    )
  return (
    <article class="prompt" aria-label="You">
      <p>{message.text}</p>
      <footer>
        <Versions message={message} />
        <Action icon="copy" label="Copy the prompt" onClick={() => copyText(message.text)} />
        <Action
          icon="edit"
          label="Edit the prompt"
          disabled={busy}
          onClick={() => {
            editing.value = true
          }}
        />
      </footer>
    </article>
  )
}

function PromptEditor({ message, onDone }: { readonly message: Prompt; readonly onDone: () => void }) {
  const text = useSignal(message.text)
  const send = async (event: Event) => {
    event.preventDefault()
    if (await ask(text.value, message.parent)) onDone()
  }
  return (
    <form class="prompt editing" onSubmit={send}>
      <textarea
        aria-label="Edited prompt"
        ref={(area) => area?.focus()}
        value={text.value}
        onInput={({ currentTarget }) => {
          text.value = currentTarget.value
        }}
        onKeyDown={(event) => {
          if (event.key === 'Escape') onDone()
          if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) void send(event)
        }}
      />
      <div class="actions">
        <button type="button" onClick={onDone}>
          Cancel
        </button>
        <button type="submit" class="primary">
          Send
        </button>
      </div>
    </form>
  )
}

export function AnswerView({ message, busy }: { readonly message: Answer; readonly busy: boolean }) {
  const { recorded } = message
  const answering = running.value.get(message.id)
  const pointed = useSignal<number | undefined>(undefined)
  const asking = useSignal<Vote | undefined>(undefined)
  const stored = useMemo(() => new Recording(recorded.events), [recorded.events])
  const recording = answering?.recording ?? stored
  // Read so that this is drawn again with each version.
  const version = answering?.version.value
  const elapsedMs = answering?.elapsedMs ?? recorded.elapsed_ms
  const figures = recording.figures()
  const state = answering?.state ?? recorded.state
  return (
    <article
      class="answer"
      aria-label={`Answer of ${recorded.model}`}
      data-state={state}
      data-version={version}
    >
      <div class="content">
        <AnswerText recording={recording} answering={answering} pointed={pointed} />
        {state === 'running' && figures.tokens === 0 && <p class="waiting">Waiting for the first text …</p>}
        {state === 'stopped' && <p class="note">Stopped.</p>}
        {recorded.problem && state === 'failed' && (
          <div class="problem" role="alert">
            <p>{describeProblem(recorded.problem)}</p>
            <div class="actions">
              {recorded.problem.code === 'invalid_api_key' && (
                <button
                  type="button"
                  onClick={() => {
                    keyDialog.value = true
                  }}
                >
                  Give another key
                </button>
              )}
              <button type="button" disabled={busy} onClick={() => void regenerate(message)}>
                Try again
              </button>
            </div>
          </div>
        )}
        <p class="figures">
          {figuresLine(figures, elapsedMs).map((part) => (
            <span key={part}>{part}</span>
          ))}
        </p>
        {state !== 'running' && (
          <footer>
            <Versions message={message} />
            <Action icon="copy" label="Copy the answer" onClick={() => copyText(recording.text().trim())} />
            <Action
              icon="again"
              label="Regenerate"
              disabled={busy}
              onClick={() => void regenerate(message)}
            />
            {figures.tokens > 0 && (
              <Action
                icon="download"
                label="Download the trace"
                onClick={() =>
                  download(
                    `${fileName(titleBefore(message, messages.value))}.trace.json`,
                    toTrace(message, messages.value),
                  )
                }
              />
            )}
            {figures.tokens > 0 && <Votes message={message} asking={asking} />}
          </footer>
        )}
        <Reason message={message} asking={asking} />
      </div>
      {figures.branches > 1 && (
        <details class="timeline" open={WIDE.matches}>
          <summary>{figures.branches} branches over time</summary>
          <Branches
            recording={recording}
            elapsedMs={elapsedMs}
            pointed={pointed}
            onStop={answering ? (branch) => answering.stopBranch(branch) : undefined}
          />
        </details>
      )}
    </article>
  )
}

const WIDE = matchMedia('(min-width: 64rem)')

/** Which of several prompts or answers at the same place is shown. */
function Versions({ message }: { readonly message: Message }) {
  const siblings = siblingsOf(messages.value, message)
  if (siblings.length < 2) return null
  const index = siblings.findIndex(({ id }) => id === message.id)
  const step = (by: number) => {
    const other = siblings[index + by]
    if (other) choose(other)
  }
  return (
    <span class="versions">
      <Action icon="previous" label="Previous version" disabled={index === 0} onClick={() => step(-1)} />
      <span>
        {index + 1} / {siblings.length}
      </span>
      <Action
        icon="next"
        label="Next version"
        disabled={index === siblings.length - 1}
        onClick={() => step(1)}
      />
    </span>
  )
}
