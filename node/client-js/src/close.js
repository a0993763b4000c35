// Close codes: RFC 6455 section 7.4.1, and the relay's own.

export const CLOSE_NORMAL = 1000;
export const CLOSE_GOING_AWAY = 1001;
/** Never on the wire: there was a close frame without a code. */
export const CLOSE_NO_CODE = 1005;
/** Never on the wire: there was no close frame. */
export const CLOSE_ABNORMAL = 1006;
/** The session can't be resumed. */
export const CLOSE_NOT_RESUMED = 4410;
/** A newer attachment has the session. */
export const CLOSE_MOVED = 4411;
