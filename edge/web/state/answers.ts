import { signal } from '@preact/signals'
import type { GenerateRequest } from '../../../shared/protocol/request.ts'
import { Answering } from '../answer/answering.ts'
import type { Recorded } from '../answer/recording.ts'
import type { Answer } from '../history/conversation.ts'
import { messageOf, saveMessage, saveOnLeaving } from '../history/store.ts'
import { apiKey } from './api-key.ts'
import { announcement, messages, notice } from './state.ts'

/** The answers that grow in this tab, by their message. Those of other conversations go on, too. */
export const running = signal<ReadonlyMap<string, Answering>>(new Map())

export function startAnswer(message: Answer, request: GenerateRequest): Answering {
  const answering = Answering.start(request, optionsFor(message))
  announcement.value = 'The answer begins.'
  holdLock(message.id, answering)
  return answering
}

/**
 * Goes on with an answer that was running when its page was left. While another tab reads it, that tab's lock makes this
 * one wait, and the stored answer is shown.
 */
export function resumeAnswer(message: Answer): void {
  if (running.value.has(message.id)) return
  const attempt = async () => {
    const stored = await messageOf(message.id)
    if (stored?.role !== 'assistant' || running.value.has(stored.id)) return
    show(stored)
    if (stored.recorded.state !== 'running') return
    const answering = apiKey.value ? Answering.resume(stored.recorded, optionsFor(stored)) : undefined
    if (answering) return await tracked(stored.id, answering)
    const problem = { code: 'stream_not_found', message: 'the page was left' } as const
    update(stored, { ...stored.recorded, state: 'failed', problem })
  }
  if (navigator.locks) void navigator.locks.request(lockName(message.id), attempt)
  else void attempt()
}

/** Leaves all answers to the next page. */
export function detachAll(): void {
  for (const answering of running.value.values()) answering.detach()
}

function optionsFor(message: Answer) {
  return {
    apiKey: apiKey.value,
    onSave: (recorded: Recorded) => update(message, recorded),
    onLeave: (recorded: Recorded) => void saveOnLeaving({ ...message, recorded }).catch(() => {}),
    onEnd: ({ state }: Recorded) => {
      announcement.value = {
        complete: 'The answer is complete.',
        stopped: 'Stopped.',
        failed: '',
        running: '',
      }[state]
    },
  }
}

function holdLock(id: string, answering: Answering): void {
  const ended = tracked(id, answering)
  void navigator.locks?.request(lockName(id), () => ended)
}

/** Lists the answer while it runs, from now on. Resolves when it has ended. */
function tracked(id: string, answering: Answering): Promise<void> {
  running.value = new Map([...running.value, [id, answering]])
  return new Promise((resolve) => {
    const dispose = answering.version.subscribe(() => {
      if (answering.state === 'running') return
      queueMicrotask(() => dispose())
      running.value = new Map([...running.value].filter(([other]) => other !== id))
      resolve()
    })
  })
}

function update(message: Answer, recorded: Recorded): void {
  change({ ...message, recorded })
}

/** Shows and stores an answer as it is now. */
export function change(changed: Answer): void {
  show(changed)
  saveMessage(changed).catch(() => {
    notice.value = 'This browser stores no history: a reload loses the conversation.'
  })
}

function show(changed: Answer): void {
  messages.value = messages.value.map((other) => (other.id === changed.id ? changed : other))
}

function lockName(id: string): string {
  return `apar-answer-${id}`
}
