import { useSignal } from '@preact/signals'
import { download, fileName } from '../download.ts'
import type { Conversation } from '../history/conversation.ts'
import { openFile } from '../history/open-file.ts'
import { messagesOf } from '../history/store.ts'
import { toJson, toMarkdown } from '../history/transfer.ts'
import { addConversation, newChat, openConversation, removeConversation, rename } from '../state/chat.ts'
import { conversations, current, notice, sidebar } from '../state/state.ts'
import { Icon } from './icon.tsx'
import { Modal } from './modal.tsx'

export function Sidebar() {
  const chosen = useSignal<Conversation | undefined>(undefined)
  const close = () => {
    chosen.value = undefined
  }
  return (
    <nav id="sidebar" aria-label="Conversations" data-open={sidebar.value}>
      <button type="button" class="wide" onClick={newChat}>
        <Icon name="plus" /> New chat
      </button>
      <ul>
        {conversations.value.map((conversation) => (
          <li key={conversation.id} data-current={conversation.id === current.value.id}>
            <a
              href={`#chat=${conversation.id}`}
              aria-current={conversation.id === current.value.id ? 'page' : undefined}
              onClick={(event) => {
                event.preventDefault()
                void openConversation(conversation.id)
              }}
            >
              {conversation.title}
            </a>
            <button
              type="button"
              class="quiet icon"
              aria-label={`Rename, export or delete: ${conversation.title}`}
              onClick={() => {
                chosen.value = conversation
              }}
            >
              <Icon name="more" />
            </button>
          </li>
        ))}
      </ul>
      <OpenButton />
      <p class="note">Conversations are kept in this browser only.</p>
      <Modal title="Conversation" open={chosen.value !== undefined} onClose={close}>
        {chosen.value && <ConversationForm conversation={chosen.value} onDone={close} />}
      </Modal>
    </nav>
  )
}

function ConversationForm(props: { readonly conversation: Conversation; readonly onDone: () => void }) {
  const { conversation, onDone } = props
  const title = useSignal(conversation.title)
  const sure = useSignal(false)
  const exportAs = async (type: 'json' | 'md') => {
    const messages = await messagesOf(conversation.id)
    const text = type === 'json' ? toJson(conversation, messages) : toMarkdown(conversation, messages)
    download(`${fileName(conversation.title)}.${type}`, text)
  }
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault()
        rename(conversation, title.value)
        onDone()
      }}
    >
      <label for="title">Title</label>
      <input
        id="title"
        value={title.value}
        maxLength={200}
        required
        onInput={({ currentTarget }) => {
          title.value = currentTarget.value
        }}
      />
      <div class="actions">
        <button type="button" onClick={() => void exportAs('md')}>
          Export as Markdown
        </button>
        <button type="button" onClick={() => void exportAs('json')}>
          Export as JSON
        </button>
      </div>
      <p class="note">JSON has everything, time lines included, and can be opened again.</p>
      <div class="actions">
        <button
          type="button"
          class="danger"
          onClick={() => {
            if (!sure.value) {
              sure.value = true
              return
            }
            void removeConversation(conversation)
            onDone()
          }}
        >
          {sure.value ? 'Delete for ever' : 'Delete'}
        </button>
        <button type="submit" class="primary">
          Rename
        </button>
      </div>
    </form>
  )
}

/** Needs no server, and no key. */
function OpenButton() {
  const read = async (input: HTMLInputElement) => {
    const file = input.files?.[0]
    if (!file) return
    try {
      const { conversation, messages } = await openFile(file.name, file)
      await addConversation(conversation, messages)
      notice.value = ''
    } catch (thrown) {
      // On a phone the history lies over the notice.
      sidebar.value = false
      notice.value = thrown instanceof Error ? thrown.message : 'The file cannot be read.'
    }
    input.value = ''
  }
  return (
    <label class="button wide">
      <Icon name="open" /> Open a chat or trace …
      <input
        id="open-file"
        type="file"
        class="hidden"
        accept=".json,.jsonl,.gz"
        onChange={({ currentTarget }) => void read(currentTarget)}
      />
    </label>
  )
}
