// Compiled by the tests, never run: what an application writes.

import AntipodeWebSocket, { AntipodeWebSocket as Named } from "antipode-client";
import type { AntipodeOptions, LostDetail, ResumedDetail } from "antipode-client";

const controller = new AbortController();
const options: AntipodeOptions = {
  gateway: "https://steer.example.com",
  candidates: ["wss://sg.relay.example.com", new URL("wss://au.relay.example.com")],
  maxBufferedBytes: 1 << 20,
  maxMessageBytes: 1 << 20,
  signal: controller.signal,
  WebSocket,
};

// It stands wherever a browser's does.
const socket: WebSocket = new AntipodeWebSocket("wss://www.example.com/chat", ["chat"], options);
socket.binaryType = "arraybuffer";
socket.onopen = () => socket.send("hello");
socket.onmessage = ({ data }) => console.log(data);
socket.onclose = ({ code, reason, wasClean }) => console.log(code, reason, wasClean);

const own = new Named("wss://www.example.com/chat");
own.addEventListener("resumed", ({ detail }) => {
  const { attempt, replayed, downtime, relay }: ResumedDetail = detail;
  console.log(attempt + replayed + downtime, relay.length);
});
own.onlost = ({ detail }) => {
  const told: LostDetail = detail;
  const resumed: false = told.resumed;
  console.log(resumed, told.cause);
};
own.ondetached = null;
own.send(new Uint8Array(3));
own.send(new Blob([]));
own.close(4000, "done");
const relay: string | undefined = own.relay;
const open: boolean = own.readyState === AntipodeWebSocket.OPEN;
console.log(relay, open);

// @ts-expect-error: it can be read only.
own.readyState = 1;
// @ts-expect-error: no such option.
new AntipodeWebSocket("wss://www.example.com", [], { gatewey: "https://steer.example.com" });
// @ts-expect-error: it needs an address.
new AntipodeWebSocket();
