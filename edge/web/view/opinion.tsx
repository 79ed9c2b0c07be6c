import { type Signal, useSignal } from '@preact/signals'
import { useId } from 'preact/hooks'
import type { Vote } from '../../../client/index.ts'
import { MAX_REASON_CHARS } from '../../../shared/feedback-limits.ts'
import type { Answer } from '../history/conversation.ts'
import { giveOpinion, takeBack } from '../state/feedback.ts'
import { Action } from './icon.tsx'

const VOTES = [
  { vote: 'up', label: 'Good answer' },
  { vote: 'down', label: 'Bad answer' },
  { vote: 'flag', label: 'Report the answer' },
] as const

const QUESTIONS = {
  up: 'Thank you. What made it good?',
  down: 'Thank you. What was wrong with it?',
  flag: 'What is wrong with this answer?',
}

interface VoteProps {
  readonly message: Answer
  /** The vote for which a reason is asked now. */
  readonly asking: Signal<Vote | undefined>
}

/** A thumb is sent at once, a report with its reason. The same again takes it back. */
export function Votes({ message, asking }: VoteProps) {
  const busy = useSignal(false)
  const given = message.opinion?.vote
  const cast = async (vote: Vote) => {
    busy.value = true
    if (vote === given) {
      if (await takeBack(message)) asking.value = undefined
    } else if (vote === 'flag' || (await giveOpinion(message, { vote }, false))) {
      asking.value = vote
    }
    busy.value = false
  }
  return (
    <>
      {VOTES.map(({ vote, label }) => (
        <Action
          key={vote}
          icon={vote}
          label={label}
          pressed={vote === given}
          disabled={busy.value}
          onClick={() => cast(vote)}
        />
      ))}
    </>
  )
}

export function Reason({ message, asking }: VoteProps) {
  const reason = useSignal('')
  const withTexts = useSignal(false)
  const busy = useSignal(false)
  const id = useId()
  const vote = asking.value
  if (!vote) return null
  const close = () => {
    asking.value = undefined
  }
  const send = async (event: Event) => {
    event.preventDefault()
    busy.value = true
    const said = reason.value.trim()
    if (await giveOpinion(message, { vote, ...(said !== '' && { reason: said }) }, withTexts.value)) close()
    busy.value = false
  }
  return (
    <form class="reason" onSubmit={send}>
      <label for={id}>{QUESTIONS[vote]}</label>
      <textarea
        id={id}
        rows={2}
        maxLength={MAX_REASON_CHARS}
        required={vote === 'flag'}
        ref={(area) => area?.focus()}
        value={reason.value}
        onInput={({ currentTarget }) => {
          reason.value = currentTarget.value
        }}
        onKeyDown={({ key }) => key === 'Escape' && close()}
      />
      <label class="check">
        <input
          type="checkbox"
          checked={withTexts.value}
          onChange={({ currentTarget }) => {
            withTexts.value = currentTarget.checked
          }}
        />
        Send the conversation, too: the operator of this server can then read it
      </label>
      <div class="actions">
        <button type="button" onClick={close}>
          {vote === 'flag' ? 'Cancel' : 'Close'}
        </button>
        <button type="submit" class="primary" disabled={busy.value}>
          {vote === 'flag' ? 'Report' : 'Send feedback'}
        </button>
      </div>
    </form>
  )
}
