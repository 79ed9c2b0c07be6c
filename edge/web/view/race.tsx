import { useSignal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
import { Answering } from '../answer/answering.ts'
import { requestFor } from '../request.ts'
import { apiKey } from '../state/api-key.ts'
import { loadModels } from '../state/chat.ts'
import { describeProblem } from '../state/problem.ts'
import { announcement, current, examples, model, path, view } from '../state/state.ts'
import { AnswerText } from './answer-text.tsx'
import { figuresLine } from './format.ts'
import { Icon } from './icon.tsx'

interface Lanes {
  readonly parallel: Answering
  readonly serial: Answering
}

/** The same prompt with parallel branches and serially, at once and side by side. Nothing of it is kept. */
export function Race() {
  const prompt = useSignal(lastPrompt())
  const lanes = useSignal<Lanes | undefined>(undefined)
  const racing =
    lanes.value !== undefined && (isRunning(lanes.value.parallel) || isRunning(lanes.value.serial))
  const stop = () => {
    lanes.value?.parallel.stop()
    lanes.value?.serial.stop()
  }
  useEffect(() => () => stop(), [])
  const start = async (event: Event) => {
    event.preventDefault()
    if (racing || prompt.value.trim() === '') return
    if (model.value === '') await loadModels()
    if (model.value === '') return
    lanes.value = startLanes(prompt.value.trim())
    announcement.value = 'The race begins.'
  }
  return (
    <main class="race">
      <form id="race-form" onSubmit={start}>
        <label for="race-prompt">The same prompt, with parallel branches and serially</label>
        <div class="actions">
          <input
            id="race-prompt"
            value={prompt.value}
            onInput={({ currentTarget }) => {
              prompt.value = currentTarget.value
            }}
          />
          {racing ? (
            <button type="button" onClick={stop}>
              <Icon name="stop" /> Stop
            </button>
          ) : (
            <button type="submit" class="primary" disabled={prompt.value.trim() === ''}>
              Start
            </button>
          )}
          <button
            type="button"
            onClick={() => {
              view.value = 'chat'
            }}
          >
            Back to the chat
          </button>
        </div>
        <p class="note">
          Both run at once, with one seed, and share the machine. The settings of the chat hold here, too.
        </p>
      </form>
      <Verdict lanes={lanes.value} />
      <div class="lanes">
        <Lane title="Parallel branches" answering={lanes.value?.parallel} />
        <Lane title="Serial" answering={lanes.value?.serial} />
      </div>
    </main>
  )
}

function Lane({ title, answering }: { readonly title: string; readonly answering: Answering | undefined }) {
  const pointed = useSignal<number | undefined>(undefined)
  // Read so that this is drawn again with each version.
  const version = answering?.version.value
  return (
    <section aria-label={title} data-state={answering?.state} data-version={version}>
      <h2>
        {title}
        <span class="watch">{((answering?.elapsedMs ?? 0) / 1000).toFixed(1)} s</span>
      </h2>
      {answering && (
        <>
          <AnswerText recording={answering.recording} answering={answering} pointed={pointed} />
          {answering.problem && (
            <p class="problem" role="alert">
              {describeProblem(answering.problem)}
            </p>
          )}
          <p class="figures">
            {figuresLine(answering.recording.figures(), answering.elapsedMs).map((part) => (
              <span key={part}>{part}</span>
            ))}
          </p>
        </>
      )}
    </section>
  )
}

/** Who was faster, once both are complete. The two answers may differ in length, so tokens per second count, too. */
function Verdict({ lanes }: { readonly lanes: Lanes | undefined }) {
  const versions = [lanes?.parallel.version.value, lanes?.serial.version.value]
  if (lanes?.parallel.state !== 'complete' || lanes.serial.state !== 'complete') return null
  const times = lanes.serial.elapsedMs / lanes.parallel.elapsedMs
  const rate = ({ recording, elapsedMs }: Answering) => recording.figures().tokens / elapsedMs
  const rates = rate(lanes.parallel) / rate(lanes.serial)
  return (
    <p class="verdict" role="status" data-version={versions.join()}>
      With parallel branches the answer was complete <strong>{times.toFixed(2)} times</strong> as fast, at{' '}
      <strong>{rates.toFixed(2)} times</strong> the tokens per second.
    </p>
  )
}

function startLanes(prompt: string): Lanes {
  const { settings } = current.value
  const seed = settings.seed ?? Math.floor(Math.random() * 2 ** 32)
  const message = { id: '', conversation: '', parent: null, created: 0, role: 'user', text: prompt } as const
  const start = (parallel: boolean) =>
    Answering.start(requestFor([message], { ...settings, seed, parallel }, model.value), {
      apiKey: apiKey.value,
    })
  return { parallel: start(true), serial: start(false) }
}

function isRunning(answering: Answering): boolean {
  // The version is read so that the caller is drawn again.
  return answering.version.value >= 0 && answering.state === 'running'
}

function lastPrompt(): string {
  const [prompt] = path.value.filter((message) => message.role === 'user').slice(-1)
  return prompt?.text ?? examples.value[0] ?? ''
}
