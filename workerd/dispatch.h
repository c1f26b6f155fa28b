#pragma once

/* What a frame from the front means (protocol sections 3 to 5, 7 and 10). */

struct channel;
struct frame;

/* Acts on one frame, and may close the channel. What the frame points to is borrowed. */
void dispatch_frame(struct channel *channel, const struct frame *frame);
