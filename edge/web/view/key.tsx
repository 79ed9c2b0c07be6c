import { useSignal } from '@preact/signals'
import { saveKey } from '../state/api-key.ts'
import { loadModels } from '../state/chat.ts'
import { describeProblem } from '../state/problem.ts'
import { keyDialog, trouble } from '../state/state.ts'
import { Modal } from './modal.tsx'

export function KeyDialog() {
  const key = useSignal('')
  return (
    <Modal
      title="API key"
      id="key-dialog"
      open={keyDialog.value}
      onClose={() => {
        keyDialog.value = false
      }}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault()
          saveKey(key.value.trim())
          void loadModels()
        }}
      >
        <p class="note">
          <code>npm start</code> prints a demo key and an address that holds it. It stays in this tab.
        </p>
        <label for="key">Key</label>
        <input
          id="key"
          autofocus
          type="password"
          autocomplete="off"
          spellcheck={false}
          required
          placeholder="apar_…"
          value={key.value}
          onInput={({ currentTarget }) => {
            key.value = currentTarget.value
          }}
        />
        {trouble.value && (
          <p id="key-problem" class="problem" role="alert">
            {describeProblem(trouble.value)}
          </p>
        )}
        <div class="actions">
          <button type="submit" class="primary">
            Use this key
          </button>
        </div>
      </form>
    </Modal>
  )
}
