import { useSignal } from '@preact/signals'
import { useRef } from 'preact/hooks'
import { answeringNow, ask, setSettings } from '../state/chat.ts'
import { current } from '../state/state.ts'
import { Icon } from './icon.tsx'

/** On a touch keyboard, Enter is the only way to a new line. */
const TOUCH = matchMedia('(pointer: coarse)')

export function Composer() {
  const text = useSignal('')
  const area = useRef<HTMLTextAreaElement>(null)
  const answering = answeringNow()
  const send = async (event: Event) => {
    event.preventDefault()
    if (answering) return
    const asked = text.value
    text.value = ''
    if (!(await ask(asked, current.value.leaf))) text.value = asked
    area.current?.focus()
  }
  return (
    <form id="composer" onSubmit={send}>
      <label for="prompt" class="hidden">
        Prompt
      </label>
      <textarea
        id="prompt"
        ref={area}
        rows={2}
        placeholder="Ask something"
        value={text.value}
        onInput={({ currentTarget }) => {
          text.value = currentTarget.value
        }}
        onKeyDown={(event) => {
          if (event.key !== 'Enter' || event.isComposing || event.shiftKey) return
          if (event.ctrlKey || event.metaKey || !TOUCH.matches) void send(event)
        }}
      />
      <div class="actions">
        <label class="check">
          <input
            id="parallel"
            type="checkbox"
            checked={current.value.settings.parallel}
            onChange={({ currentTarget }) => setSettings({ parallel: currentTarget.checked })}
          />
          Parallel branches
        </label>
        <span class="note keys">
          <kbd>Enter</kbd> sends, <kbd>Esc</kbd> stops
        </span>
        {answering ? (
          <button
            id="stop"
            type="button"
            class="primary round"
            aria-label="Stop"
            onClick={() => answering.stop()}
          >
            <Icon name="stop" />
          </button>
        ) : (
          <button
            id="send"
            type="submit"
            class="primary round"
            aria-label="Send"
            disabled={text.value.trim() === ''}
          >
            <Icon name="send" />
          </button>
        )}
      </div>
    </form>
  )
}
