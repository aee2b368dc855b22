// The search runs in a worker. Browsers start no worker from a file, so an invisible frame takes its place there.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {  // by the second name, the search knows where it is
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = `
        <script>postMessage = (data) => frameElement.dispatchEvent(new MessageEvent("message", { data }))</script>
        <script src="${url}"></script>`
      this.ready = new Promise((resolve) => (this.frame.onload = resolve))
      this.frame.addEventListener("message", ({ data }) => this.dispatchEvent(new MessageEvent("message", { data })))
      document.body.append(this.frame)
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }
  }
}
