import { render } from 'preact'
import { detachAll } from './state/answers.ts'
import { answeringNow, loadHistory, loadModels, openFromAddress } from './state/chat.ts'
import { App } from './view/app.tsx'

const root = document.getElementById('app')
if (!root) throw new Error('index.html has no #app')
render(<App />, root)

addEventListener('popstate', () => void openFromAddress())
// A tab that is closed looks the same as one that is reloaded; the server ends what nobody resumes within 30 s.
addEventListener('pagehide', () => detachAll())
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) location.reload()
})
document.addEventListener('keydown', ({ key }) => {
  if (key === 'Escape' && !document.querySelector('dialog[open]')) answeringNow()?.stop()
})

void loadModels()
void loadHistory().then(openFromAddress)
