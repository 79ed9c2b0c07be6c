import { useChat } from '@ai-sdk/react'
import { branchesOf } from 'apar-ai-sdk'
import { useState } from 'react'
import { createRoot } from 'react-dom/client'

const STYLE = `
  body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 70rem; padding: 1rem; color-scheme: light dark }
  .branches { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: 0.5rem }
  .branch { border: 1px solid; border-radius: 6px; padding: 0.5rem; white-space: pre-wrap; overflow-wrap: anywhere }
  .branch[data-reason] { opacity: 0.6 }
  .text { white-space: pre-wrap }
  form { display: flex; gap: 0.5rem } input { flex: 1; font: inherit }`

function Chat() {
  const { messages, sendMessage, status, stop, error } = useChat()
  const [input, setInput] = useState('')
  const send = (event) => {
    event.preventDefault()
    sendMessage({ text: input })
    setInput('')
  }
  const isBusy = status === 'submitted' || status === 'streaming'
  return (
    <main data-status={status}>
      <style>{STYLE}</style>
      {messages.map((message) => (
        <Message key={message.id} message={message} />
      ))}
      {error && <p role="alert">{error.message}</p>}
      <form onSubmit={send}>
        <input aria-label="Prompt" value={input} onChange={(event) => setInput(event.target.value)} />
        {isBusy ? (
          <button type="button" onClick={stop}>
            Stop
          </button>
        ) : (
          <button type="submit">Send</button>
        )}
      </form>
    </main>
  )
}

/** The branches side by side, as they grow; then the text in reading order. */
function Message({ message }) {
  return (
    <section>
      <h2>{message.role}</h2>
      <div className="branches">
        {branchesOf(message).map(({ key, branch, parent, text, reason }) => (
          <div className="branch" key={key} data-reason={reason}>
            <strong>{parent === null ? 'root' : `${branch}, from ${parent}`}</strong>
            {'\n'}
            {text}
          </div>
        ))}
      </div>
      <p className="text">{message.parts.filter(({ type }) => type === 'text').map(({ text }) => text)}</p>
    </section>
  )
}

createRoot(document.getElementById('root')).render(<Chat />)
