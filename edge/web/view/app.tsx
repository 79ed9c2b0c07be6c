import { useSignal } from '@preact/signals'
import { useRef } from 'preact/hooks'
import { answeringNow, ask, loadModels, setSettings } from '../state/chat.ts'
import { describeProblem } from '../state/problem.ts'
import {
  announcement,
  current,
  examples,
  keyDialog,
  model,
  models,
  notice,
  path,
  sidebar,
  trouble,
  view,
} from '../state/state.ts'
import { Composer } from './composer.tsx'
import { useFollowEnd } from './follow-end.ts'
import { Action, Icon } from './icon.tsx'
import { KeyDialog } from './key.tsx'
import { AnswerView, PromptView } from './message.tsx'
import { Race } from './race.tsx'
import { SettingsDialog } from './settings.tsx'
import { Sidebar } from './sidebar.tsx'

export function App() {
  const settings = useSignal(false)
  return (
    <>
      <header class="bar">
        <Action
          icon="menu"
          label="Conversations"
          pressed={sidebar.value}
          onClick={() => {
            sidebar.value = !sidebar.value
          }}
        />
        <h1>
          <Icon name="branches" /> <span>apar</span>
        </h1>
        <p class="claim">answers that grow in parallel branches</p>
        <ModelChoice />
        <Action
          icon="race"
          label="Race: parallel against serial"
          onClick={() => {
            view.value = 'race'
          }}
        />
        <Action
          icon="sliders"
          label="Settings"
          onClick={() => {
            settings.value = true
          }}
        />
        <Action
          icon="key"
          label="API key"
          onClick={() => {
            keyDialog.value = true
          }}
        />
      </header>
      <div class="columns">
        <Sidebar />
        {view.value === 'race' ? (
          <Race />
        ) : (
          <main>
            <Messages />
            <Banners />
            <Composer />
          </main>
        )}
      </div>
      <p class="hidden" role="status" id="status">
        {announcement.value}
      </p>
      <SettingsDialog
        open={settings.value}
        onClose={() => {
          settings.value = false
        }}
      />
      <KeyDialog />
    </>
  )
}

function ModelChoice() {
  return (
    <label class="model">
      <span class="hidden">Model</span>
      <select
        id="model"
        disabled={models.value.length === 0}
        value={model.value}
        onChange={({ currentTarget }) => setSettings({ model: currentTarget.value })}
      >
        {models.value.map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  )
}

function Banners() {
  return (
    <>
      {trouble.value && (
        <div class="problem banner" role="alert" id="problem">
          <p>{describeProblem(trouble.value)}</p>
          <button type="button" onClick={() => void loadModels()}>
            Try again
          </button>
        </div>
      )}
      {notice.value !== '' && (
        <div class="problem banner" role="alert">
          <p>{notice.value}</p>
          <button
            type="button"
            onClick={() => {
              notice.value = ''
            }}
          >
            Close
          </button>
        </div>
      )}
    </>
  )
}

function Messages() {
  const scroller = useRef<HTMLElement>(null)
  const content = useRef<HTMLDivElement>(null)
  const answering = answeringNow()
  const busy = answering !== undefined
  useFollowEnd(scroller, content, current.value.id, answering)
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: the keyboard scrolls what has the focus
    <section class="messages" ref={scroller} tabIndex={0} aria-label="Messages">
      <div ref={content} key={current.value.id}>
        {path.value.length === 0 && <Welcome />}
        {path.value.map((message) =>
          message.role === 'user' ? (
            <PromptView key={message.id} message={message} busy={busy} />
          ) : (
            <AnswerView key={message.id} message={message} busy={busy} />
          ),
        )}
      </div>
    </section>
  )
}

function Welcome() {
  return (
    <section class="welcome">
      <Icon name="branches" />
      <h2>One answer, written in several places at once</h2>
      <p>
        Where the text comes to a detail, the model forks: a branch writes the detail while the rest goes on.
        Watch the branches grow in the text and in the time line beside it.
      </p>
      <div class="actions">
        {examples.value.map((example) => (
          <button key={example} type="button" onClick={() => void ask(example, null)}>
            {example}
          </button>
        ))}
      </div>
    </section>
  )
}
