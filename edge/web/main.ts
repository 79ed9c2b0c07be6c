import { listModels } from '../../client/models.ts'
import { AparError } from '../../shared/errors.ts'
import { loadKey, saveKey } from './api-key.ts'
import { byId, element } from './elements.ts'
import { formatMs } from './figures.ts'
import { describeProblem } from './problem.ts'
import { run } from './run.ts'
import { addRun } from './runs-table.ts'

const composer = byId('composer', HTMLFormElement)
const prompt = byId('prompt', HTMLTextAreaElement)
const parallel = byId('parallel', HTMLInputElement)
const send = byId('send', HTMLButtonElement)
const stop = byId('stop', HTMLButtonElement)
const model = byId('model', HTMLSelectElement)
const problem = byId('problem', HTMLElement)
const status = byId('status', HTMLElement)
const keyDialog = byId('key-dialog', HTMLDialogElement)
const keyInput = byId('key', HTMLInputElement)
const keyProblem = byId('key-problem', HTMLElement)

let running: AbortController | undefined

function showProblem(thrown: unknown): void {
  problem.textContent = describeProblem(thrown)
  problem.hidden = false
}

/** Fills the list of models. Opens the key dialog when the key is missing or invalid. */
async function loadModels(key: string | undefined): Promise<void> {
  if (!key) return keyDialog.showModal()
  try {
    const names = await listModels(location.origin, key)
    model.replaceChildren(...names.map((name) => element('option', '', name)))
    model.disabled = names.length === 0
    problem.hidden = names.length > 0
    if (names.length === 0) showProblem(new AparError('no_gpu_node', 'no gpu node is up'))
    keyDialog.close()
  } catch (thrown) {
    if (!(thrown instanceof AparError && thrown.code === 'invalid_api_key')) return showProblem(thrown)
    keyProblem.textContent = 'This key is not valid.'
    keyProblem.hidden = false
    if (!keyDialog.open) keyDialog.showModal()
  }
}

async function sendPrompt(): Promise<void> {
  const key = loadKey()
  if (running || !key) return
  if (model.disabled) await loadModels(key)
  if (model.disabled) return
  const text = prompt.value.trim()
  if (text === '') return
  const enabled = parallel.checked
  const request = {
    model: model.value,
    messages: [{ role: 'user' as const, content: text }],
    branching: { enabled },
  }
  running = new AbortController()
  setRunning(true)
  try {
    const figures = await run(key, request, running.signal)
    const cancelled = running.signal.aborted
    status.textContent = cancelled ? 'Stopped.' : `Complete after ${formatMs(figures.elapsedMs)}.`
    if (!cancelled) addRun(text, enabled, figures)
  } catch (thrown) {
    status.textContent = running.signal.aborted ? 'Stopped.' : ''
    if (!running.signal.aborted) showProblem(thrown)
  } finally {
    running = undefined
    setRunning(false)
  }
}

function setRunning(on: boolean): void {
  send.disabled = on
  stop.disabled = !on
  if (!on) return
  problem.hidden = true
  status.textContent = 'Generating…'
}

composer.addEventListener('submit', (event) => {
  event.preventDefault()
  void sendPrompt()
})
stop.addEventListener('click', () => running?.abort())
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !keyDialog.open) running?.abort()
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) composer.requestSubmit()
})
byId('change-key', HTMLButtonElement).addEventListener('click', () => keyDialog.showModal())
byId('key-form', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault()
  saveKey(keyInput.value.trim())
  keyInput.value = ''
  keyProblem.hidden = true
  void loadModels(loadKey())
})

void loadModels(loadKey())
