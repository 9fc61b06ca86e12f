// Jumps the player to a time, marks the segment that is playing, and labels the
// video element, which gradio leaves without a label.
(() => {
  const player = () => document.querySelector('#zsar-video video');

  document.addEventListener('click', (event) => {
    const button = event.target.closest('[data-seek]');
    const video = player();
    if (!button || !video) return;
    video.currentTime = Number(button.dataset.seek);
    video.scrollIntoView({block: 'nearest', behavior: 'smooth'});
  });

  // Media events do not bubble, but they can be captured.
  document.addEventListener('loadedmetadata', (event) => {
    if (event.target !== player()) return;
    event.target.setAttribute('aria-label', 'the chosen video');
  }, true);

  document.addEventListener('timeupdate', (event) => {
    if (event.target !== player()) return;
    const now = event.target.currentTime;
    for (const button of document.querySelectorAll('[data-end]')) {
      const {seek, end} = button.dataset;
      if (Number(seek) <= now && now < Number(end)) {
        button.setAttribute('aria-current', 'time');
      } else {
        button.removeAttribute('aria-current');
      }
    }
  }, true);
})();
