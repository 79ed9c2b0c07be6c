import type { RefObject } from 'preact'
import { useEffect, useRef } from 'preact/hooks'

/** Distance from the end, in pixels, at which a reader still is at the end. */
const NEAR = 40

/**
 * The scroller follows its content as it grows, unless the reader has scrolled up.
 * @param shown names the content: another one is shown from its end.
 * @param growing what is being written; the reader who asked for it wants to see it.
 */
export function useFollowEnd(
  scroller: RefObject<HTMLElement | null>,
  content: RefObject<HTMLElement | null>,
  shown: string,
  growing: object | undefined,
): void {
  const follows = useRef(true)
  useEffect(() => {
    const box = scroller.current
    if (!box || !content.current) return
    let top = box.scrollTop
    follows.current = true
    const onScroll = () => {
      const isNear = box.scrollHeight - box.scrollTop - box.clientHeight < NEAR
      // The content may have grown since the scroller was moved to its end: only who goes up leaves the end.
      follows.current = isNear || (follows.current && box.scrollTop >= top)
      top = box.scrollTop
    }
    const observer = new ResizeObserver(() => {
      if (follows.current) toEnd(box)
    })
    observer.observe(content.current)
    observer.observe(box)
    box.addEventListener('scroll', onScroll)
    return () => {
      observer.disconnect()
      box.removeEventListener('scroll', onScroll)
    }
  }, [shown])
  useEffect(() => {
    if (growing === undefined || !scroller.current) return
    follows.current = true
    toEnd(scroller.current)
  }, [growing])
}

function toEnd(box: HTMLElement): void {
  box.scrollTop = box.scrollHeight
}
