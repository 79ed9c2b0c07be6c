const ICONS = {
  branches: 'M12 22V14M12 14C12 9 5 10 5 4M12 14C12 9 19 10 19 4M12 14V3',
  close: 'M6 6 18 18M18 6 6 18',
  menu: 'M4 7H20M4 12H20M4 17H20',
  plus: 'M12 5V19M5 12H19',
  more: 'M5 12H5.01M12 12H12.01M19 12H19.01',
  key: 'M12 15a4 4 0 1 1-8 0 4 4 0 1 1 8 0ZM11 12 20 3M16 7 19 10M19 4 21 6',
  sliders: 'M4 7H13M17 7H20M15 5V9M4 17H7M11 17H20M9 15V19',
  race: 'M5 21V4h12l-2 4 2 4H5',
  send: 'M12 20V5M6 11 12 5 18 11',
  stop: 'M7 7H17V17H7Z',
  copy: 'M9 9H20V20H9ZM5 15H4V4H15V5',
  again: 'M20 11A8 8 0 1 0 18 17M20 5V11H14',
  edit: 'M4 20 5 16 16 5 19 8 8 19Z',
  previous: 'M15 5 8 12 15 19',
  next: 'M9 5 16 12 9 19',
  up: 'M7 11 11 4a2 2 0 0 1 2 2V10H19L17.5 20H7ZM7 11V20H4V11Z',
  down: 'M7 13 11 20a2 2 0 0 0 2-2V14H19L17.5 4H7ZM7 13V4H4V13Z',
  open: 'M3 19V5H9L11 8H20V11M3 19 6 11H22L19 19Z',
  download: 'M12 4V15M7 10 12 15 17 10M5 20H19',
  flag: 'M6 21V4H18L15.5 8.5 18 13H6',
} as const

export type IconName = keyof typeof ICONS

export function Icon({ name }: { readonly name: IconName }) {
  return (
    <svg viewBox="0 0 24 24" aria-hidden="true">
      <path d={ICONS[name]} />
    </svg>
  )
}

/** A button with an icon. */
export function Action({ icon, label, disabled = false, pressed, onClick }: ActionProps) {
  return (
    <button
      type="button"
      class="quiet icon"
      aria-label={label}
      aria-pressed={pressed}
      title={label}
      disabled={disabled}
      onClick={() => void onClick()}
    >
      <Icon name={icon} />
    </button>
  )
}

interface ActionProps {
  readonly icon: IconName
  readonly label: string
  readonly disabled?: boolean
  readonly pressed?: boolean
  readonly onClick: () => unknown
}
