import type { Signal } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef } from 'preact/hooks'
import type { Answering } from '../answer/answering.ts'
import type { Recording } from '../answer/recording.ts'
import { MarkdownView } from '../markdown/markdown-view.ts'
import { sourceOf } from '../markdown/source.ts'
import { coloured } from '../state/state.ts'
import { Reasoning } from './reasoning.tsx'

interface AnswerTextProps {
  readonly recording: Recording
  readonly answering: Answering | undefined
  /** The branch under the pointer, in the text or in the time line. */
  readonly pointed: Signal<number | undefined>
}

/** The text of an answer. It is drawn by MarkdownView: Preact knows only the element around it. */
export function AnswerText({ recording, answering, pointed }: AnswerTextProps) {
  const root = useRef<HTMLDivElement>(null)
  const view = useRef<MarkdownView>(undefined)
  const version = answering?.version.value
  const colours = coloured.value
  const branch = pointed.value

  useLayoutEffect(() => {
    if (root.current) view.current = new MarkdownView(root.current)
    return () => view.current?.destroy()
  }, [])
  useLayoutEffect(() => {
    const began = performance.now()
    const isGrowing = (id: number) => recording.times.get(id)?.endMs === undefined
    view.current?.update(sourceOf(recording.pieces(), answering ? isGrowing : () => false), colours)
    if (answering) answering.drawMs = performance.now() - began
  }, [recording, answering, version, colours])
  useEffect(() => view.current?.point(branch), [branch])

  const onPointerMove = ({ clientX, clientY }: PointerEvent) => {
    pointed.value = view.current?.branchAt(clientX, clientY) || undefined
  }
  return (
    <>
      <Reasoning recording={recording} growing={answering?.state === 'running'} />
      <div
        ref={root}
        class="markdown"
        onPointerMove={onPointerMove}
        onPointerLeave={() => {
          pointed.value = undefined
        }}
      />
    </>
  )
}
